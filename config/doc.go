// Package config reads the node's file: parses it, checks it, fills in what can be found out, and explains every
// mistake with its place.
//
// One description of the keys serves all: the struct tags of Config. The reader, the names of the environment variables
// and docs/config.md are made from them, so that they cannot drift apart. Invariants:
//
//   - What Load returns without an error has passed every check that can be made from the file alone; the numbers
//     of the lease are safe (L7).
//   - A mistake is named with file, line and column (or the environment variable), the key, what was wanted and what
//     was seen. All mistakes of form are reported at once, and when there are none, all of content.
//   - A key that has no effect is never accepted in silence: it is refused, or a warning says so.
//   - Load reads the node's file, the secret files that it names and the places where PostgreSQL's programs may be.
//     It changes nothing and opens no connection.
//   - Secrets appear in no error and no warning.
package config
