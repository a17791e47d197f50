// Command mutants breaks the safety rules one at a time and runs the tests that guard them: each must fail. A mutant that
// survives shows a rule that no test would miss. Caught means that a check failed, in tests that pass before and after it on
// the tree as it is: not that they were killed, could not be built, or did not end. The tree itself is not touched: everything
// happens in a copy of it, made once, so that all mutants meet the same text.
//
//	go run ./scripts/mutants [-list] [-only NAME] [-sim SEEDS] [-out FILE] [RULE...]    all, one, or those of some rules, such as: L1 C1
//	go run ./scripts/mutants -doc TESTS SIM > docs/mutants.md                          the page, from two files written with -out
//
// With -sim the tests are the simulation instead, for that many seeds, or for as many as a mutant is known to need: it shows
// which rules it would miss. What is broken in pgctl it cannot see, which has models in its place.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	list := flag.Bool("list", false, "list the mutants and run nothing")
	only := flag.String("only", "", "run the mutant of this `name` alone")
	out := flag.String("out", "", "enter what came of each into this `file`, for -doc; what it says of others stays")
	doc := flag.Bool("doc", false, "print the page docs/mutants.md, from two files that -out wrote: the tests' and the simulation's")
	seeds := flag.Int("sim", 0, "play this many `seeds` of the simulation on each, or as many as it is known to need, instead of its own tests")
	flag.Parse()
	if *doc {
		if err := page(os.Stdout, flag.Args()); err != nil {
			fmt.Fprintln(os.Stderr, "mutants:", err)
			os.Exit(1)
		}
		return
	}
	chosen := choose(*only, flag.Args())
	if *seeds > 0 {
		chosen = simulated(chosen)
	}
	if len(chosen) == 0 {
		fmt.Fprintf(os.Stderr, "mutants: none is named %q or of the rules %q: -list shows all\n", *only, flag.Args())
		os.Exit(2)
	}
	if *list {
		table(os.Stdout, func(row func(...any)) {
			for _, m := range chosen {
				row(m.name, m.rule, m.file, m.pkg+" "+m.run)
			}
		})
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	bad, err := runAll(ctx, chosen, *seeds, func(r result) error { return enter(*out, *seeds, r) })
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	case bad > 0:
		fmt.Printf("%d of %d not caught\n", bad, len(chosen))
		os.Exit(1)
	}
	fmt.Printf("all %d caught\n", len(chosen))
}

// choose gives the mutants of that name, and of those rules; nothing asked for: all.
func choose(only string, rules []string) []mutant {
	return slices.DeleteFunc(slices.Clone(mutants), func(m mutant) bool {
		return only != "" && m.name != only || len(rules) > 0 && !slices.Contains(rules, m.rule)
	})
}

// simulated gives those that the simulation can see, to be found by it.
func simulated(chosen []mutant) []mutant {
	chosen = slices.DeleteFunc(chosen, mutant.modelled)
	for i := range chosen {
		chosen[i].pkg, chosen[i].run = "./agent/sim", "^TestSchedules$"
	}
	return chosen
}

// runAll tries one mutant after the other, says on stderr how it goes, and prints the table at the end. bad counts those
// that were not caught, for whatever reason. seeds: of the simulation; 0: their own tests. Each result is told at once.
func runAll(ctx context.Context, chosen []mutant, seeds int, tell func(result) error) (bad int, err error) {
	tree, err := copyTree(ctx)
	if err != nil {
		return 0, err
	}
	tree.seeds = seeds
	defer tree.remove()
	var results []result
	for i, m := range chosen {
		began := time.Now()
		r := result{Name: m.name, Seeds: tree.seedsOf(m.name)}
		r.Verdict, r.By = tree.try(ctx, m)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if r.Verdict != caught {
			bad++
		}
		fmt.Fprintf(os.Stderr, "%d/%d %s: %s %s (%v)\n", i+1, len(chosen), m.name, r.Verdict, r.By, time.Since(began).Round(100*time.Millisecond))
		results = append(results, r)
		if err := tell(r); err != nil {
			return 0, err
		}
	}
	table(os.Stdout, func(row func(...any)) {
		for i, m := range chosen {
			row(m.name, m.rule, m.pkg+" "+m.run, results[i].Verdict, results[i].By)
		}
	})
	return bad, nil
}

// table prints rows in columns.
func table(w io.Writer, fill func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fill(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				_, _ = fmt.Fprint(t, "\t") // tabwriter keeps an error for Flush
			}
			_, _ = fmt.Fprint(t, c)
		}
		_, _ = fmt.Fprintln(t)
	})
	if err := t.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}
