package pgctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// A clone in the making is a directory beside data_dir:
//
//	data_dir.clone-<random>/data               what pg_basebackup writes; renamed to data_dir when whole
//	data_dir.clone-<random>/tablespaces.json   where the copies of tablespaces go, written before they exist
//
// While data is there the clone is not whole, and everything listed is rubbish; once data has moved out, the listed
// tablespaces belong to data_dir.
const (
	cloneInfix  = ".clone-"
	cloneData   = "data"
	cloneSpaces = "tablespaces.json"
)

// tablespaceMove is a tablespace's directory on the source and here.
type tablespaceMove struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// cloneSuffix is what an earlier clone appended to a tablespace's directory.
var cloneSuffix = regexp.MustCompile(`\.clone-[0-9a-f]{12}$`)

// newClone makes a clone directory beside dir, with a fresh sibling name for each tablespace: the source's own
// directory may be on this machine too, and the former data's copy must stay.
func newClone(dir string, tablespaces []string) (clone string, moves []tablespaceMove, err error) {
	suffix := cloneInfix + randomSuffix()
	clone = dir + suffix
	moves = []tablespaceMove{}
	for _, from := range tablespaces {
		moves = append(moves, tablespaceMove{From: from, To: cloneSuffix.ReplaceAllString(from, "") + suffix})
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", nil, fmt.Errorf("clone: %w", err)
	}
	if err := os.Mkdir(clone, 0o700); err != nil {
		return "", nil, fmt.Errorf("clone: %w", err)
	}
	if err := writeDurable(filepath.Join(clone, cloneSpaces), moves); err != nil {
		return "", nil, err
	}
	for _, m := range moves {
		if _, err := os.Lstat(m.To); !errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("clone: tablespace directory %s exists already", m.To)
		}
		if err := os.MkdirAll(filepath.Dir(m.To), 0o700); err != nil {
			return "", nil, fmt.Errorf("clone: tablespace %s: %w", m.From, err)
		}
	}
	return clone, moves, nil
}

// removeClone removes a clone directory, and its tablespaces' copies unless the clone was swapped in. The list goes
// last, so that a removal that is broken off itself can be taken up again.
func removeClone(clone string) error {
	var moves []tablespaceMove
	err := readJSON(filepath.Join(clone, cloneSpaces), &moves)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("leftover clone: %w", err)
	}
	data := filepath.Join(clone, cloneData)
	if _, err := os.Lstat(data); err == nil {
		for _, m := range moves {
			if !cloneSuffix.MatchString(m.To) {
				return fmt.Errorf("leftover clone %s: lists %s, which no clone makes", clone, m.To)
			}
			if err := os.RemoveAll(m.To); err != nil {
				return fmt.Errorf("leftover clone: %w", err)
			}
		}
		if err := os.RemoveAll(data); err != nil {
			return fmt.Errorf("leftover clone: %w", err)
		}
	}
	if err := os.RemoveAll(clone); err != nil {
		return fmt.Errorf("leftover clone: %w", err)
	}
	return nil
}
