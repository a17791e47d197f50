package integration

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// chaosDir is where a run's report goes.
var chaosDir = filepath.Join(outDir, "chaos")

// Report writes report.html, run.json and history.json.
func (r *chaosRun) Report() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.MkdirAll(chaosDir, 0o755); err != nil {
		return err
	}
	errs := []error{saveJSON("run.json", r.log)}
	if r.load != nil {
		errs = append(errs, saveJSON("history.json", &r.load.Ops))
	}
	return errors.Join(errs...)
}

func saveJSON(name string, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(chaosDir, name), text, 0o644)
}
