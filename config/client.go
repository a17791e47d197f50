package config

// Client is what a command needs of the node's file to talk to the node's API.
type Client struct {
	URL                       string // empty: no file, or one without an address
	Username, Password        string
	PasswordErr               error // why the password could not be read; matters only to calls that need one
	CAFile, CertFile, KeyFile string
}

// LoadClient reads only the API's part of the node's file and environment, and checks no more of it: an operator's
// account often may not read the secrets, and needs no PostgreSQL. An empty path means the environment alone.
func LoadClient(path string, env []string) (Client, error) {
	c, found := read(path, env)
	if err := found.err(); err != nil {
		return Client{}, err
	}
	c.setDefaults()
	cl := Client{
		Username: c.RestAPI.Authentication.Username, Password: c.RestAPI.Authentication.Password,
		CAFile: c.RestAPI.CAFile, CertFile: c.RestAPI.CertFile, KeyFile: c.RestAPI.KeyFile,
	}
	if path != "" || c.places.given("restapi.connect_address") || c.places.given("restapi.listen") {
		cl.URL = c.APIURL()
	}
	if file := c.RestAPI.Authentication.PasswordFile; file != "" && cl.Password == "" {
		cl.Password, cl.PasswordErr = readSecret(file)
	}
	return cl, nil
}
