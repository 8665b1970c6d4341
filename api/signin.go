package api

// SignIn lets a browser in.
type SignIn struct {
	Key string `json:"key" minLength:"1" maxLength:"200" doc:"An API key, or a code of POST /v1/sign-in-codes."`
}

// SignInCode lets one browser in, once.
type SignInCode struct {
	Code string `json:"code"`
	URL  string `json:"url" doc:"The panel's address with the code in its fragment, which no server is sent."`
}
