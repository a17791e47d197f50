package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pgquorum/cluster"
)

// promiseFile is this node's promise, in the guard's directory: in PGDATA a clone or a rewind would overwrite it (U4).
const promiseFile = "promise.json"

// ErrPromisedHigher is returned for a promise below the one that stands (V1).
var ErrPromisedHigher = errors.New("a higher term is promised")

// ErrBelowPromise is returned for a source of a term below the promise (V1).
var ErrBelowPromise = errors.New("source is below the promise")

// promiseMark is the content of promiseFile.
type promiseMark struct {
	Term   cluster.Term   `json:"term"`
	Member cluster.Member `json:"member"`
}

// Promise makes durable that this node follows nobody of a term below term (V1): when it returns nil, no later Follow or
// Start of such a source succeeds, also after a crash. A promise is never lowered (ErrPromisedHigher); the same term may
// be promised again. It works with Postgres stopped, too. It cuts nothing: Cut does.
func (p *Postgres) Promise(_ context.Context, term cluster.Term, m cluster.Member) error {
	p.source.Lock()
	defer p.source.Unlock()
	have, err := p.readPromise()
	if err != nil {
		return err
	}
	if have.Term > term {
		return fmt.Errorf("promise: want term %d, have %d: %w", term, have.Term, ErrPromisedHigher)
	}
	if want := (promiseMark{Term: term, Member: m}); have != want {
		if err := os.MkdirAll(p.opt.GuardDir, 0o700); err != nil {
			return fmt.Errorf("promise: %w", err)
		}
		if err := writeDurable(filepath.Join(p.opt.GuardDir, promiseFile), want); err != nil {
			p.rememberPromise(nil) // it may have the new one all the same
			return err
		}
		p.rememberPromise(&want)
	}
	return nil
}

func (p *Postgres) rememberPromise(m *promiseMark) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.promised = m
}

// Promised is the term of the promise that stands; 0: none. A file that cannot be read counts as the highest term there
// is, so that a node that has forgotten its word follows nobody.
func (p *Postgres) Promised() cluster.Term {
	m, err := p.readPromise()
	if err != nil {
		p.opt.Log.Error("promise unreadable, no source is accepted", "file", promiseFile, "error", err)
		return ^cluster.Term(0)
	}
	return m.Term
}

// readPromise gives what the file has, read once; a missing file is no promise.
func (p *Postgres) readPromise() (m promiseMark, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.promised != nil {
		return *p.promised, nil
	}
	err = readJSON(filepath.Join(p.opt.GuardDir, promiseFile), &m)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	p.promised = &m
	return m, nil
}

// allowed says whether a source may be followed under the promise (V1): its term is not below it. At the promised term
// itself only the new holder's own source, or the one that the taker named in its catch-up order, can come: both bear
// that term.
func (p *Postgres) allowed(s *Source) error {
	if s == nil {
		return nil
	}
	m, err := p.readPromise()
	if err != nil {
		return err
	}
	if s.Term < m.Term {
		return fmt.Errorf("source %s of term %d: promised %d: %w", s.Node, s.Term, m.Term, ErrBelowPromise)
	}
	return nil
}
