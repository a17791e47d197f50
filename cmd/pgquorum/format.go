package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// formats are what -f takes.
var formats = []string{"pretty", "tsv", "json", "yaml"}

func addFormatFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "format", "f", "pretty", "output `FORMAT`: pretty, tsv, json or yaml")
}

func checkFormat(format string) error {
	if !slices.Contains(formats, format) {
		return usage("--format %q: want %s", format, strings.Join(formats, ", "))
	}
	return nil
}

// table is rows of cells for people.
type table struct {
	title  string
	header []string
	right  []bool // columns that are aligned to the right
	rows   [][]string
}

// write renders the table as pretty or tsv.
func (t table) write(w io.Writer, format string) error {
	text := t.pretty()
	if format == "tsv" {
		text = t.tsv()
	}
	_, err := io.WriteString(w, text)
	return err
}

// tsv gives one line a row. Tabs and line ends inside a cell become spaces.
func (t table) tsv() string {
	clean := strings.NewReplacer("\t", " ", "\r", " ", "\n", " ")
	var b strings.Builder
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(clean.Replace(cell))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// pretty gives patronictl's frame, with the title in its upper edge.
func (t table) pretty() string {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	edge := "+"
	for _, w := range widths {
		edge += strings.Repeat("-", w+2) + "+"
	}
	var b strings.Builder
	b.WriteString(titled(edge, t.title) + "\n")
	t.line(&b, t.header, widths, func(int) bool { return false })
	b.WriteString(edge + "\n")
	for _, row := range t.rows {
		t.line(&b, row, widths, func(i int) bool { return i < len(t.right) && t.right[i] })
	}
	b.WriteString(edge + "\n")
	return b.String()
}

func (t table) line(b *strings.Builder, row []string, widths []int, right func(int) bool) {
	for i, cell := range row {
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if right(i) {
			cell, pad = pad+cell, ""
		}
		fmt.Fprintf(b, "| %s%s ", cell, pad)
	}
	b.WriteString("|\n")
}

// titled puts the title into the edge; where it is too long for that, onto a line of its own.
func titled(edge, title string) string {
	if title == "" {
		return edge
	}
	if utf8.RuneCountInString(title)+5 > len(edge) {
		return title + "\n" + edge
	}
	return "+ " + title + " " + edge[utf8.RuneCountInString(title)+3:]
}

// writeDocument writes v as json or yaml.
func writeDocument(w io.Writer, format string, v any) error {
	var text []byte
	var err error
	if format == "yaml" {
		text, err = yaml.Marshal(v)
	} else {
		text, err = json.MarshalIndent(v, "", "  ")
		text = append(text, '\n')
	}
	if err != nil {
		return fmt.Errorf("output as %s: %w", format, err)
	}
	_, err = w.Write(text)
	return err
}
