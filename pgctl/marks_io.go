package pgctl

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// writeDurable puts v as JSON into path so that, when it returns nil, the file survives a crash of the machine: it
// writes a temporary file beside it, fsyncs, renames it over path and fsyncs the directory. On an error the former
// content of path stands, or the new one whole: never a part of either. The mode is 0600.
func writeDurable(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: encode: %w", path, err)
	}
	return writeFileDurable(path, append(data, '\n'), 0o600)
}

// readJSON reads what writeDurable wrote; the error of a missing file is fs.ErrNotExist.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeFileDurable is writeDurable for plain bytes. Where there is no room it takes the reserve of path's directory.
func writeFileDurable(path string, data []byte, mode os.FileMode) error {
	return withReserve(filepath.Dir(path), func() error { return replaceFile(path, data, mode) })
}

func replaceFile(path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("%s: temporary file: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the first error is the one that counts
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("%s: write: %w", path, err)
	}
	return syncDir(dir)
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%s: open for fsync: %w", dir, err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%s: fsync: %w", dir, err)
	}
	return nil
}
