package config

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// maxSecret bounds a secret file, in bytes.
const maxSecret = 4 << 10

// secret is a password and the file that may hold it instead.
type secret struct {
	path     string // of the section that holds password and password_file
	password *string
	file     string
}

func (c *Config) secrets() []secret {
	p := &c.PostgreSQL.Authentication
	return []secret{
		{"restapi.authentication", &c.RestAPI.Authentication.Password, c.RestAPI.Authentication.PasswordFile},
		{"postgresql.authentication.superuser", &p.Superuser.Password, p.Superuser.PasswordFile},
		{"postgresql.authentication.replication", &p.Replication.Password, p.Replication.PasswordFile},
		{"postgresql.authentication.rewind", &p.Rewind.Password, p.Rewind.PasswordFile},
	}
}

// readSecrets puts the content of each password_file, without white space around it, in the place of the password. Of
// a password and a password_file, the one from the environment wins; from the same place they are refused.
func (c *Config) readSecrets(found *findings) {
	for _, s := range c.secrets() {
		key := s.path + ".password_file"
		if s.file == "" {
			continue
		}
		at := c.places.of(key)
		if *s.password != "" {
			plain := c.places.of(s.path + ".password")
			if (plain.Env == "") == (at.Env == "") {
				found.refuse(at, key, "password stands beside it; keep one of the two")
				continue
			}
			if plain.Env != "" {
				continue
			}
		}
		text, err := readSecret(s.file)
		if err != nil {
			found.refuseBecause(at, key, err, "secret cannot be used")
			continue
		}
		*s.password = text
	}
}

// readSecret gives a secret file's content, trimmed; its errors never hold any of it.
func readSecret(path string) (string, error) {
	raw, err := readBounded(path, maxSecret)
	if err != nil {
		return "", err
	}
	text := bytes.TrimSpace(raw)
	switch {
	case len(text) == 0:
		return "", fmt.Errorf("%s is empty", path)
	case !utf8.Valid(text) || bytes.ContainsAny(text, "\x00\r\n"):
		return "", fmt.Errorf("%s holds more than one line, or no text", path)
	}
	return string(text), nil
}
