package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"pgquorum/cluster"
)

// The layout of WAL, the same in 13 to 18 but for the pages' magic number.
// Source: xlogrecord.h and xlog_internal.h, PostgreSQL 13 to 18.
const (
	shortHeader   = 24
	longHeader    = 40 // of a segment's first page
	recordHeader  = 24
	crcAt         = 20 // in a record's head; the CRC covers what comes after the head, then the head up to here
	maxRecord     = 1 << 30
	flagContinued = 0x0001 // XLP_FIRST_IS_CONTRECORD
	flagLong      = 0x0002 // XLP_LONG_HEADER
	flagOverwrite = 0x0008 // XLP_FIRST_IS_OVERWRITE_CONTRECORD
	infoSwitch    = 0x40   // XLOG_SWITCH, of the resource manager 0
)

var (
	errEnd     = errors.New("end of the range")
	errInvalid = errors.New("no valid record")
	errRetaken = errors.New("record was given up and written over") // at the page that the error's page names
)

// walDump prints one line for each valid record from --start on, up to --end: the head of pg_waldump's own line. Like
// that it ends with status 1 where WAL ends before --end. It begins with the first record of --start's page, so that
// --start need not be a record's beginning.
func walDump(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("pg_waldump", flag.ContinueOnError)
	dir := flags.String("path", "", "directory of the segments")
	timeline := flags.Uint("timeline", 0, "their timeline")
	start := flags.String("start", "", "where to begin")
	end := flags.String("end", "", "where to end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	from, err1 := cluster.ParseLSN(*start)
	upTo, err2 := cluster.ParseLSN(*end)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	r := &reader{dir: *dir, tli: uint32(*timeline), end: uint64(upTo)}
	if err := r.size(uint64(from)); err != nil {
		return err
	}
	pos, err := r.firstOnPage(uint64(from))
	var prev uint64
	for err == nil {
		var rec record
		rec, err = r.record(pos, prev)
		if err != nil {
			break
		}
		if rec.lsn >= uint64(from) {
			if _, err := fmt.Fprintf(out, "rmgr: %-11d len (rec/tot): %6d/%6d, tx: %10d, lsn: %s, prev %s, desc: \n",
				rec.rmgr, rec.length, rec.length, rec.xid, lsnText(rec.lsn), lsnText(rec.prev)); err != nil {
				return err
			}
		}
		pos, prev = rec.next, rec.lsn
	}
	if errors.Is(err, errEnd) {
		return nil
	}
	return fmt.Errorf("error in WAL record at %s: %w", lsnText(pos), err)
}

// record is one valid record.
type record struct {
	lsn, prev, next uint64
	length, xid     uint32
	rmgr            byte
}

// reader reads the segments of one timeline.
type reader struct {
	dir     string
	tli     uint32
	end     uint64 // nothing is read from here on
	segment uint64
	page    uint64
	magic   uint16 // of the first page that is read; all others must have it too

	name string
	data []byte // of the segment of that name
}

// size reads the sizes that the segment of lsn names in its first page.
func (r *reader) size(lsn uint64) error {
	matches, err := filepath.Glob(filepath.Join(r.dir, fmt.Sprintf("%08X????????????????", r.tli)))
	if err != nil || len(matches) == 0 {
		return fmt.Errorf("segments of timeline %d in %s: none", r.tli, r.dir)
	}
	file, err := os.Open(matches[0])
	if err != nil {
		return err
	}
	defer file.Close()
	var b [longHeader]byte
	if _, err := io.ReadFull(file, b[:]); err != nil {
		return err
	}
	r.magic = binary.LittleEndian.Uint16(b[0:])
	r.segment, r.page = uint64(binary.LittleEndian.Uint32(b[32:])), uint64(binary.LittleEndian.Uint32(b[36:]))
	if binary.LittleEndian.Uint16(b[2:])&flagLong == 0 || r.page == 0 || r.segment%r.page != 0 {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		return fmt.Errorf("%s (%d bytes), on the way to %s: no first page of a segment", matches[0], info.Size(), lsnText(lsn))
	}
	return nil
}

// pageAt gives the page that begins at lsn, and its header.
func (r *reader) pageAt(lsn uint64) (page []byte, flags uint16, remaining uint32, err error) {
	number, perID := lsn/r.segment, uint64(1<<32)/r.segment
	name := fmt.Sprintf("%08X%08X%08X", r.tli, number/perID, number%perID)
	if name != r.name {
		data, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			return nil, 0, 0, err
		}
		r.name, r.data = name, data
	}
	at := lsn % r.segment
	if at+r.page > uint64(len(r.data)) {
		return nil, 0, 0, fmt.Errorf("%s ends before %d: %w", name, at, errInvalid)
	}
	page = r.data[at : at+r.page]
	if magic := binary.LittleEndian.Uint16(page); magic != r.magic {
		return nil, 0, 0, fmt.Errorf("page at %s has magic number %04X, want %04X: %w", lsnText(lsn), magic, r.magic, errInvalid)
	}
	if addr := binary.LittleEndian.Uint64(page[8:]); addr != lsn {
		return nil, 0, 0, fmt.Errorf("page at %s says that it is at %s: %w", lsnText(lsn), lsnText(addr), errInvalid)
	}
	return page, binary.LittleEndian.Uint16(page[2:]), binary.LittleEndian.Uint32(page[16:]), nil
}

func (r *reader) header(lsn uint64) uint64 {
	if lsn%r.segment == 0 {
		return longHeader
	}
	return shortHeader
}

// firstOnPage is where the first record begins on lsn's page, or on a later one when a record fills that.
// Source: XLogFindNextRecord, xlogreader.c, PostgreSQL 15.
func (r *reader) firstOnPage(lsn uint64) (uint64, error) {
	for page := lsn - lsn%r.page; ; page += r.page {
		_, flags, remaining, err := r.pageAt(page)
		if err != nil {
			return page, err
		}
		first := page + r.header(page)
		if flags&flagContinued == 0 {
			return first, nil
		}
		if rest := aligned(uint64(remaining)); rest < r.page-r.header(page) {
			return first + rest, nil
		}
	}
}

// record reads and checks the record at pos; prev is where the one before begins, 0: not known.
// Source: XLogReadRecord, ValidXLogRecordHeader and ValidXLogRecord, xlogreader.c, PostgreSQL 15.
func (r *reader) record(pos, prev uint64) (record, error) {
	if begin := pos - pos%r.page; pos == begin || pos == begin+r.header(begin) {
		pos = begin + r.header(begin)
		if _, flags, _, err := r.pageAt(begin); err != nil || flags&flagContinued != 0 {
			return record{}, errors.Join(err, errInvalid)
		}
	}
	head, _, err := r.bytes(pos, recordHeader, 0)
	if err != nil {
		return record{}, err
	}
	rec := record{lsn: pos, length: binary.LittleEndian.Uint32(head), xid: binary.LittleEndian.Uint32(head[4:]),
		prev: binary.LittleEndian.Uint64(head[8:]), rmgr: head[17]}
	switch {
	case rec.length < recordHeader || rec.length > maxRecord:
		return rec, fmt.Errorf("length %d: %w", rec.length, errInvalid)
	case prev != 0 && rec.prev != prev, prev == 0 && rec.prev >= pos:
		return rec, fmt.Errorf("previous record at %s, want %s: %w", lsnText(rec.prev), lsnText(prev), errInvalid)
	}
	whole, next, err := r.bytes(pos, int(rec.length), int(rec.length))
	if errors.Is(err, errRetaken) {
		return r.record(next, prev)
	}
	if err != nil {
		return rec, err
	}
	sum := crc32.Update(crc32.Checksum(whole[recordHeader:], castagnoli), castagnoli, whole[:crcAt])
	if sum != binary.LittleEndian.Uint32(whole[crcAt:]) {
		return rec, fmt.Errorf("checksum: %w", errInvalid)
	}
	rec.next = aligned(next)
	if rec.rmgr == 0 && head[16]&0xF0 == infoSwitch && rec.next%r.segment != 0 {
		rec.next += r.segment - rec.next%r.segment
	}
	return rec, nil
}

// bytes reads n bytes from pos on, over the pages' headers, and gives where they end. With total, the record's whole
// length, each next page must say how much of the record it goes on with. errRetaken comes with the page from which on
// another record stands.
func (r *reader) bytes(pos uint64, n, total int) (b []byte, next uint64, err error) {
	for begin := pos - pos%r.page; ; begin += r.page {
		page, flags, remaining, err := r.pageAt(begin)
		if err != nil {
			return nil, begin, err
		}
		if len(b) > 0 {
			pos = begin + r.header(begin)
			if flags&flagOverwrite != 0 {
				return nil, begin, errRetaken
			}
			if flags&flagContinued == 0 || total > 0 && int(remaining) != total-len(b) {
				return nil, begin, fmt.Errorf("page at %s does not go on with the record: %w", lsnText(begin), errInvalid)
			}
		}
		part := page[pos-begin:]
		part = part[:min(len(part), n-len(b))]
		if pos+uint64(len(part)) > r.end {
			return nil, begin, errEnd
		}
		if b = append(b, part...); len(b) == n {
			return b, pos + uint64(len(part)), nil
		}
	}
}

// aligned rounds up to where a record may begin.
func aligned(n uint64) uint64 { return (n + 7) &^ 7 }
