package raftfsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"pgquorum/cluster"
)

// commandVersion is the version of the log entry's form. Whoever adds a field or changes a meaning raises it, and
// writes the new version only once every node reads it.
const commandVersion = 1

// entry is a command as it stands in the Raft log: {"v":1,"kind":"acquire_leader","body":{...}}.
type entry struct {
	Version int             `json:"v"`
	Kind    string          `json:"kind"`
	Body    json.RawMessage `json:"body"`
}

// errUnknownEntry marks a log entry of a version, kind or form that this binary does not know.
var errUnknownEntry = errors.New("unknown entry")

// decoders has every kind of command. Kinds stand in Raft logs: none is ever renamed or used again.
var decoders = map[string]func([]byte) (cluster.Command, error){
	cluster.Claim{}.Kind():         decodeBody[cluster.Claim],
	cluster.SetSystemID{}.Kind():   decodeBody[cluster.SetSystemID],
	cluster.Register{}.Kind():      decodeBody[cluster.Register],
	cluster.Readmit{}.Kind():       decodeBody[cluster.Readmit],
	cluster.AcquireLeader{}.Kind(): decodeBody[cluster.AcquireLeader],
	cluster.ReleaseLeader{}.Kind(): decodeBody[cluster.ReleaseLeader],
	cluster.AddRule{}.Kind():       decodeBody[cluster.AddRule],
	cluster.DropRules{}.Kind():     decodeBody[cluster.DropRules],
	cluster.RecordFork{}.Kind():    decodeBody[cluster.RecordFork],
	cluster.RecordLSN{}.Kind():     decodeBody[cluster.RecordLSN],
	cluster.CountHandback{}.Kind(): decodeBody[cluster.CountHandback],
	cluster.Refuse{}.Kind():        decodeBody[cluster.Refuse],
	cluster.SetConfig{}.Kind():     decodeBody[cluster.SetConfig],
	cluster.SetLease{}.Kind():      decodeBody[cluster.SetLease],
	cluster.AddEvent{}.Kind():      decodeBody[cluster.AddEvent],
}

// encodeCommand gives the log entry of a command. A kind that no node could decode is an error here, not a halt there.
func encodeCommand(cmd cluster.Command) ([]byte, error) {
	if cmd == nil {
		return nil, fmt.Errorf("command: want one, have nil: %w", errUnknownEntry)
	}
	if _, known := decoders[cmd.Kind()]; !known {
		return nil, fmt.Errorf("command %q: no such kind in version %d: %w", cmd.Kind(), commandVersion, errUnknownEntry)
	}
	body, err := json.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("command %q: encode: %w", cmd.Kind(), err)
	}
	return json.Marshal(entry{Version: commandVersion, Kind: cmd.Kind(), Body: body})
}

// decodeCommand reads what encodeCommand wrote.
func decodeCommand(data []byte) (cluster.Command, error) {
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("entry of %d bytes: %w", len(data), err)
	}
	if e.Version != commandVersion {
		return nil, fmt.Errorf("entry version %d (kind %q), want %d: %w", e.Version, e.Kind, commandVersion, errUnknownEntry)
	}
	decode, known := decoders[e.Kind]
	if !known {
		return nil, fmt.Errorf("entry kind %q: no such kind in version %d: %w", e.Kind, commandVersion, errUnknownEntry)
	}
	cmd, err := decode(e.Body)
	if err != nil { // it is JSON, so it was written like that: by another version
		return nil, fmt.Errorf("entry kind %q: %w: %w", e.Kind, errUnknownEntry, err)
	}
	return cmd, nil
}

// decodeBody reads a command of one type.
func decodeBody[C cluster.Command](body []byte) (cluster.Command, error) {
	var c C
	if err := decodeStrict(body, &c); err != nil {
		return nil, err
	}
	return c, nil
}

// decodeStrict refuses fields it does not know: a newer node meant something by them, and to leave them out would
// make this node's state another than its.
func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("want one JSON value, found more behind it")
	}
	return nil
}
