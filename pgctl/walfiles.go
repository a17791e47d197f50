package pgctl

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"pgquorum/cluster"
)

// The layout of WAL. Source: xlogrecord.h and xlog_internal.h, PostgreSQL 9.5 to 18.
const (
	walAlign        = 8
	shortPageHeader = 24 // SizeOfXLogShortPHD
	longPageHeader  = 40 // SizeOfXLogLongPHD, on the first page of a segment
	recordHeader    = 24 // SizeOfXLogRecord
	rmgrXLOG        = 0
	infoSwitch      = 0x40 // XLOG_SWITCH, of rmgr XLOG
	infoMask        = 0xF0 // the bits of xl_info that belong to the rmgr
)

// walFiles is a directory of WAL segments and the arithmetic on them.
type walFiles struct {
	dir     string
	segment uint64 // bytes of a segment
	page    uint64 // bytes of a page
}

// walFiles gives PGDATA's WAL.
func (p *Postgres) walFiles(c *ControlData) walFiles {
	return walFiles{dir: filepath.Join(p.opt.DataDir, "pg_wal"), segment: c.SegmentSize, page: c.PageSize}
}

// name is the file of the segment that holds the byte at lsn. Source: XLogFileName, xlog_internal.h, PostgreSQL 15.
func (w walFiles) name(tli cluster.Timeline, lsn cluster.LSN) string {
	seg, perID := uint64(lsn)/w.segment, uint64(0x100000000)/w.segment
	return fmt.Sprintf("%08X%08X%08X", uint32(tli), seg/perID, seg%perID)
}

// segmentStart is where the segment that holds lsn begins.
func (w walFiles) segmentStart(lsn cluster.LSN) cluster.LSN {
	return lsn - cluster.LSN(uint64(lsn)%w.segment)
}

// has says whether the segment that holds lsn is there, whole.
func (w walFiles) has(tli cluster.Timeline, lsn cluster.LSN) bool {
	info, err := os.Stat(filepath.Join(w.dir, w.name(tli, lsn)))
	return err == nil && info.Mode().IsRegular() && uint64(info.Size()) == w.segment
}

// contiguousEnd is the end of the run of segments of tli that begins with lsn's; lsn's own start if that one is missing.
func (w walFiles) contiguousEnd(tli cluster.Timeline, lsn cluster.LSN) cluster.LSN {
	at := w.segmentStart(lsn)
	for w.has(tli, at) {
		at += cluster.LSN(w.segment)
	}
	return at
}

// walRecord is one record's place and head.
type walRecord struct {
	lsn, prev cluster.LSN
	length    uint64 // xl_tot_len: without padding and page headers
	isSwitch  bool   // XLOG_SWITCH: the rest of its segment is void
}

// walReader reads records' heads from the segments of one timeline. It keeps the last segment open, as one record after
// another is asked for.
type walReader struct {
	walFiles
	tli  cluster.Timeline
	file *os.File // nil: none yet
	name string   // of file
}

func (w walFiles) reader(tli cluster.Timeline) *walReader { return &walReader{walFiles: w, tli: tli} }

// close ends the reading.
func (r *walReader) close() {
	if r.file != nil {
		_ = r.file.Close() // read only
		r.file = nil
	}
}

// segmentAt gives the open segment that holds lsn.
func (r *walReader) segmentAt(lsn cluster.LSN) (*os.File, error) {
	name := r.walFiles.name(r.tli, lsn)
	if r.file != nil && r.name == name {
		return r.file, nil
	}
	file, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return nil, err
	}
	r.close()
	r.file, r.name = file, name
	return file, nil
}

// header reads the head of the record that begins at lsn. It checks nothing but what it needs to make sense of it.
func (r *walReader) header(lsn cluster.LSN) (rec walRecord, err error) {
	var b [recordHeader]byte
	if err := r.readAcross(b[:], lsn); err != nil {
		return rec, fmt.Errorf("WAL record at %v: %w", lsn, err)
	}
	rec = walRecord{
		lsn:    lsn,
		length: uint64(binary.NativeEndian.Uint32(b[0:4])),
		prev:   cluster.LSN(binary.NativeEndian.Uint64(b[8:16])),
	}
	rec.isSwitch = b[17] == rmgrXLOG && b[16]&infoMask == infoSwitch
	if rec.length < recordHeader {
		return rec, fmt.Errorf("WAL record at %v: want a length of at least %d, have %d: %w", lsn, recordHeader, rec.length, fs.ErrInvalid)
	}
	return rec, nil
}

// readAcross fills b with WAL from lsn on, leaving out the page headers between; the head of a record may be cut by
// the end of a page, and of a segment.
func (r *walReader) readAcross(b []byte, lsn cluster.LSN) error {
	for {
		file, err := r.segmentAt(lsn)
		if err != nil {
			return err
		}
		room := int(r.page - uint64(lsn)%r.page)
		n := min(room, len(b))
		if _, err := file.ReadAt(b[:n], int64(uint64(lsn)%r.segment)); err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		lsn += cluster.LSN(room)
		lsn += r.pageHeader(lsn)
	}
}

// pageHeader is the length of the header of the page that begins at lsn.
func (w walFiles) pageHeader(lsn cluster.LSN) cluster.LSN {
	if uint64(lsn)%w.segment == 0 {
		return longPageHeader
	}
	return shortPageHeader
}

// end is where rec ends, as PostgreSQL counts flushed WAL: padded, with the headers of the pages that it crosses, and
// exactly on a page's border when it fills the page. A switch fills its segment.
// Source: XLogBytePosToEndRecPtr and CopyXLogRecordToWAL, xlog.c, PostgreSQL 15.
func (w walFiles) end(rec walRecord) cluster.LSN {
	left := cluster.LSN((rec.length + walAlign - 1) / walAlign * walAlign)
	at := rec.lsn
	for {
		room := cluster.LSN(w.page - uint64(at)%w.page)
		if left <= room {
			at += left
			break
		}
		left -= room
		at += room
		at += w.pageHeader(at)
	}
	if rec.isSwitch && uint64(at)%w.segment != 0 {
		at = w.segmentStart(at) + cluster.LSN(w.segment)
	}
	return at
}
