package api

import "time"

// SSH says how machines are reached by ssh. All of it is Errand's own.
type SSH struct {
	Address string   `json:"address" doc:"HOST:PORT where the server listens; empty where it takes no ssh."`
	HostKey string   `json:"hostKey" doc:"The server's public key, as in known_hosts without the name."`
	Keys    []SSHKey `json:"keys" doc:"The caller's own public keys."`
}

// SSHKey is a public key by which a person walks into machines.
type SSHKey struct {
	ID          string    `json:"id"`
	Fingerprint string    `json:"fingerprint" example:"SHA256:…"`
	PublicKey   string    `json:"publicKey"`
	Comment     string    `json:"comment"`
	Principals  []string  `json:"principals,omitempty" doc:"Of a key that signs certificates: for whom they may be."`
	CreatedAt   time.Time `json:"createdAt"`
	UsedAt      time.Time `json:"usedAt,omitzero" doc:"When it last let its person in."`
}

// AddSSHKey is the body that adds a public key.
type AddSSHKey struct {
	PublicKey string `json:"publicKey" maxLength:"16384" doc:"One line, as in ~/.ssh/id_ed25519.pub."`
}
