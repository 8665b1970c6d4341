package keeper_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/secret/kms"
	"github.com/errand-dev/errand/secret/kms/keeper"
)

// vendor is what every fake service stands on: keys that encrypt, and a mood.
type vendor struct {
	mu      sync.Mutex
	key     cipher.AEAD
	mood    string // "", "refuse", "missing", "disabled"
	version int
	asked   int
}

func newVendor(t *testing.T) *vendor {
	k := &vendor{version: 1}
	k.replace(t)
	return k
}

// replace gives it another key, as if the first were lost.
func (k *vendor) replace(t *testing.T) {
	t.Helper()
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
}

func (k *vendor) set(mood string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mood = mood
}

func (k *vendor) state() (mood string, version int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	return k.mood, k.version
}

func (k *vendor) encrypt(b []byte) []byte {
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.key.Seal(nonce, nonce, b, nil)
}

func (k *vendor) decrypt(b []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(b) < 12 {
		return nil, errors.New("too short")
	}
	return k.key.Open(nil, b[:12], b[12:], nil)
}

// service is one kind of keeper over its own protocol.
type service struct {
	url  string
	open kms.Opener
	stop func()
}

func answer(w http.ResponseWriter, code int, v any) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// newAWS speaks JSON 1.1, as AWS KMS.
func newAWS(t *testing.T, k *vendor) service {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		var in struct {
			KeyId                     string
			Plaintext, CiphertextBlob []byte
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
			answer(w, 400, map[string]string{"__type": "MissingAuthenticationTokenException"})
			return
		}
		fail := func(kind string) { answer(w, 400, map[string]string{"__type": kind, "message": "as the test wants"}) }
		switch mood, _ := k.state(); mood {
		case "refuse":
			fail("AccessDeniedException")
			return
		case "missing":
			fail("NotFoundException")
			return
		case "disabled":
			fail("DisabledException")
			return
		}
		arn := "arn:aws:kms:eu-central-1:1:key/k1"
		switch r.Header.Get("X-Amz-Target") {
		case "TrentService.Encrypt":
			if in.KeyId != "alias/errand" {
				fail("NotFoundException")
				return
			}
			answer(w, 200, map[string]any{"KeyId": arn, "CiphertextBlob": k.encrypt(in.Plaintext)})
		case "TrentService.Decrypt":
			plain, err := k.decrypt(in.CiphertextBlob)
			if err != nil {
				fail("InvalidCiphertextException")
				return
			}
			answer(w, 200, map[string]any{"KeyId": arn, "Plaintext": plain})
		default:
			fail("UnknownOperationException")
		}
	}))
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return service{url: "awskms:///alias/errand?region=eu-central-1&endpoint=" + url.QueryEscape(s.URL), open: keeper.AWS, stop: s.Close}
}

// cloud speaks gRPC, as Google Cloud KMS.
type cloud struct {
	kmspb.UnimplementedKeyManagementServiceServer
	*vendor
}

func (c cloud) fault(name string) error {
	switch mood, _ := c.state(); {
	case mood == "refuse":
		return status.Error(codes.PermissionDenied, "as the test wants")
	case mood == "missing", name != "projects/p/locations/l/keyRings/r/cryptoKeys/k":
		return status.Error(codes.NotFound, "as the test wants")
	case mood == "disabled":
		return status.Error(codes.FailedPrecondition, "as the test wants")
	}
	return nil
}

func (c cloud) Encrypt(_ context.Context, in *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	if err := c.fault(in.Name); err != nil {
		return nil, err
	}
	return &kmspb.EncryptResponse{Name: in.Name + "/cryptoKeyVersions/1", Ciphertext: c.encrypt(in.Plaintext)}, nil
}

func (c cloud) Decrypt(_ context.Context, in *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	if err := c.fault(in.Name); err != nil {
		return nil, err
	}
	plain, err := c.decrypt(in.Ciphertext)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed")
	}
	return &kmspb.DecryptResponse{Plaintext: plain}, nil
}

func newGoogle(t *testing.T, k *vendor) service {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(s, cloud{vendor: k})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	return service{
		url: "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
		open: keeper.Google(option.WithEndpoint(l.Addr().String()), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))),
		stop: func() { s.Stop(); <-done },
	}
}

// token is a credential that asks nobody.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "test", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// newAzure speaks Key Vault's REST, with its challenge before the first request.
// Only the version that encrypted decrypts.
func newAzure(_ *testing.T, k *vendor) service {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") != "Bearer test" {
			w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example/tenant", resource="https://vault.azure.net"`)
			answer(w, 401, map[string]any{})
			return
		}
		fail := func(status int, code string) {
			answer(w, status, map[string]any{"error": map[string]string{"code": code, "message": "as the test wants"}})
		}
		mood, version := k.state()
		switch mood {
		case "refuse":
			fail(403, "Forbidden")
			return
		case "missing":
			fail(404, "KeyNotFound")
			return
		case "disabled":
			fail(403, "KeyDisabled")
			return
		}
		var in struct{ Alg, Value string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		value, err := base64.RawURLEncoding.DecodeString(in.Value)
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // keys/NAME[/VERSION]/encrypt
		if err != nil || in.Alg != "RSA-OAEP-256" || len(parts) < 3 || parts[1] != "errand" {
			fail(400, "BadParameter")
			return
		}
		current := fmt.Sprint("v", version)
		switch parts[len(parts)-1] {
		case "encrypt":
			value = append([]byte(current+":"), k.encrypt(value)...)
		case "decrypt":
			by, rest, _ := bytes.Cut(value, []byte(":"))
			if value, err = k.decrypt(rest); err != nil || len(parts) != 4 || parts[2] != string(by) {
				fail(400, "BadParameter")
				return
			}
		}
		answer(w, 200, map[string]string{"kid": "https://v.vault.azure.net/keys/errand/" + current, "value": base64.RawURLEncoding.EncodeToString(value)})
	}))
	client := &azkeys.ClientOptions{DisableChallengeResourceVerification: true}
	client.Transport = s.Client()
	client.Retry = policy.RetryOptions{MaxRetries: -1}
	return service{
		url:  "azurekeyvault://" + strings.TrimPrefix(s.URL, "https://") + "/keys/errand",
		open: keeper.Azure{Credential: token{}, Client: client}.Open, stop: s.Close,
	}
}

// newTransit speaks Vault's REST.
func newTransit(_ *testing.T, k *vendor) service {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail := func(status int, text string) { answer(w, status, map[string]any{"errors": []string{text}}) }
		mood, version := k.state()
		switch {
		case r.Header.Get("X-Vault-Token") != "test", mood == "refuse":
			fail(403, "permission denied")
			return
		case mood == "missing":
			fail(400, "encryption key not found")
			return
		}
		var in struct{ Plaintext, Ciphertext string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		switch r.URL.Path {
		case "/v1/transit/encrypt/errand":
			plain, _ := base64.StdEncoding.DecodeString(in.Plaintext)
			answer(w, 200, map[string]any{"data": map[string]string{"ciphertext": fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(k.encrypt(plain)))}})
		case "/v1/transit/decrypt/errand":
			_, rest, _ := strings.Cut(strings.TrimPrefix(in.Ciphertext, "vault:v"), ":")
			sealed, _ := base64.StdEncoding.DecodeString(rest)
			plain, err := k.decrypt(sealed)
			if err != nil {
				fail(400, "cipher: message authentication failed")
				return
			}
			answer(w, 200, map[string]any{"data": map[string]string{"plaintext": base64.StdEncoding.EncodeToString(plain)}})
		default:
			fail(404, "no handler for route")
		}
	}))
	env := map[string]string{"VAULT_ADDR": s.URL, "VAULT_TOKEN": "test"}
	return service{url: "hashivault://errand", open: keeper.Transit(func(name string) string { return env[name] }), stop: s.Close}
}

var services = map[string]struct {
	start   func(*testing.T, *vendor) service
	version string // that it tells
	moods   map[string]string
}{
	"AWS":    {newAWS, "", map[string]string{"refuse": "kms_refused", "missing": "key_lost", "disabled": "key_lost"}},
	"Google": {newGoogle, "", map[string]string{"refuse": "kms_refused", "missing": "key_lost", "disabled": "key_lost"}},
	"Azure":  {newAzure, "v1", map[string]string{"refuse": "kms_refused", "missing": "key_lost", "disabled": "kms_refused"}},
	"Vault":  {newTransit, "1", map[string]string{"refuse": "kms_refused", "missing": "key_lost"}},
}

func code(err error) string {
	if e := errand.AsError(err); e != nil {
		return e.Code
	}
	return ""
}

// TestServices seals and opens through each service's own protocol, and meets
// each when it refuses, has lost the key, has another one, and is down.
func TestServices(t *testing.T) {
	for name, tt := range services {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			k := newVendor(t)
			s := tt.start(t, k)
			stopped := sync.OnceFunc(s.stop)
			t.Cleanup(stopped)
			u, err := url.Parse(s.url)
			if err != nil {
				t.Fatal(err)
			}
			e := secret.NewEnvelope(s.url, kms.Find(map[string]kms.Opener{u.Scheme: s.open}))
			sealed, err := e.Seal(ctx, []byte("the value"), "secret x")
			if err != nil {
				t.Fatal(err)
			}
			if sealed.KEK != s.url || sealed.Version != tt.version {
				t.Errorf("sealed by %q version %q, want %q version %q", sealed.KEK, sealed.Version, s.url, tt.version)
			}
			if got, err := e.Open(ctx, sealed, "secret x"); err != nil || string(got) != "the value" {
				t.Fatalf("opened %q, %v", got, err)
			}
			if _, err := e.Open(ctx, sealed, "secret y"); code(err) != "key_lost" {
				t.Errorf("a value that was moved gave %v", err)
			}
			for mood, want := range tt.moods {
				k.set(mood)
				if _, err := e.Open(ctx, sealed, "secret x"); code(err) != want || errand.KindOf(err) != errand.Unavailable || !strings.Contains(err.Error(), s.url) {
					t.Errorf("%s: opening gave %s: %v; want %s", mood, code(err), err, want)
				}
				if _, err := e.Seal(ctx, []byte("x"), "secret z"); code(err) != want {
					t.Errorf("%s: sealing gave %v", mood, err)
				}
			}
			k.set("")
			k.mu.Lock()
			k.version = 2
			k.mu.Unlock()
			if got, err := e.Open(ctx, sealed, "secret x"); err != nil || string(got) != "the value" {
				t.Errorf("after a rotation there, opened %q, %v", got, err)
			}
			again, err := e.Rewrap(ctx, sealed)
			if err != nil || again.DataKey == sealed.DataKey || again.Value != sealed.Value {
				t.Errorf("wrapped anew: %+v, %v", again, err)
			}
			if got, err := e.Open(ctx, again, "secret x"); err != nil || string(got) != "the value" {
				t.Errorf("wrapped anew, opened %q, %v", got, err)
			}
			k.replace(t)
			if _, err := e.Open(ctx, sealed, "secret x"); code(err) != "key_lost" {
				t.Errorf("with another key, opening gave %v", err)
			}
			stopped()
			short, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			if _, err := e.Open(short, sealed, "secret x"); code(err) != "kms_unavailable" || !strings.Contains(err.Error(), s.url) {
				t.Errorf("down, opening gave %s: %v", code(err), err)
			}
			if _, err := e.Rotate(ctx); errand.KindOf(err) != errand.Conflict {
				t.Errorf("rotating what is kept elsewhere gave %v", err)
			}
		})
	}
}

func TestNamesThatOpenNothing(t *testing.T) {
	find := kms.Find(map[string]kms.Opener{"azurekeyvault": keeper.Azure{Credential: token{}}.Open, "hashivault": keeper.Transit(func(string) string { return "" })})
	for name, want := range map[string]string{
		"nonsense": "names no key", "ftp://x": `kind "ftp"`, "https://user:pw@host/key": "holds a credential",
		"azurekeyvault://v.vault.azure.net/secrets/x": "names no key", "hashivault://k": "VAULT_ADDR",
	} {
		if _, err := find(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s gave %v, want %q in it", name, err, want)
		}
	}
}
