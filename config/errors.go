package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Place is where a value came from.
type Place struct {
	File         string
	Line, Column int    // from 1; 0: the file as a whole
	Env          string // the environment variable, instead of a file
}

// String gives file:line:column, or the environment variable.
func (p Place) String() string {
	switch {
	case p.Env != "":
		return "environment " + p.Env
	case p.File == "":
		return "environment"
	case p.Line == 0:
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Warning is something that works, but that the operator should know.
type Warning struct {
	Place Place
	Key   string // such as raft.members; may be empty
	Text  string
}

// String gives place, key and text.
func (w Warning) String() string { return message(w.Place, w.Key, w.Text) }

// Error is one mistake. Load joins all that it found; errors.As finds the first.
type Error struct {
	Place Place
	Key   string
	Text  string
	Cause error // may be nil
}

// Error gives place, key and text on one line.
func (e *Error) Error() string {
	text := message(e.Place, e.Key, e.Text)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

func message(p Place, key, text string) string {
	parts := []string{p.String()}
	if key != "" {
		parts = append(parts, key)
	}
	return strings.Join(append(parts, text), ": ")
}

// places remembers where each key's value stands.
type places struct {
	file string
	at   map[string]Place
}

// of gives the place of a key; of a key that is not in the file, the place of the nearest section around it.
func (p places) of(path string) Place {
	for {
		if at, ok := p.at[path]; ok {
			return at
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return Place{File: p.file}
		}
		path = path[:i]
	}
}

// given says whether the file or the environment sets the key.
func (p places) given(path string) bool {
	_, ok := p.at[path]
	return ok
}

// findings collects what a load found out.
type findings struct {
	errs     []error
	warnings []Warning
}

// refuse notes a mistake, once: what is merged is read as often as it is merged.
func (f *findings) refuse(at Place, key, format string, args ...any) {
	mistake := Error{Place: at, Key: key, Text: fmt.Sprintf(format, args...)}
	if !slices.ContainsFunc(f.errs, func(err error) bool { e, is := err.(*Error); return is && *e == mistake }) {
		f.errs = append(f.errs, &mistake)
	}
}

func (f *findings) refuseBecause(at Place, key string, cause error, format string, args ...any) {
	f.errs = append(f.errs, &Error{Place: at, Key: key, Text: fmt.Sprintf(format, args...), Cause: cause})
}

func (f *findings) warn(at Place, key, format string, args ...any) {
	f.warnings = append(f.warnings, Warning{Place: at, Key: key, Text: fmt.Sprintf(format, args...)})
}

func (f *findings) err() error { return errors.Join(f.errs...) }
