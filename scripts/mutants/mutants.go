package main

import (
	"slices"
	"strings"
)

// mutant is one broken rule: the text old stands in file exactly once and becomes new; the tests of pkg whose names match
// run must then fail. run is narrow, so that each takes seconds.
type mutant struct {
	name, rule string
	file       string
	old, new   string
	pkg, run   string
}

// modelled says whether the simulation has a model in the place of what is broken, so that it cannot see it.
func (m mutant) modelled() bool { return strings.HasPrefix(m.file, "pgctl/") }

// mutants are the rules, broken. Who adds a rule adds its mutant, and to supports what rests on it.
var mutants = slices.Concat(mutantsOfLease, mutantsOfGuard, mutantsOfTakeOver, mutantsOfPromises, mutantsOfRules, mutantsOfTheRest)

// hanging are the mutants that nothing shows but tests that never end. There is none: a test that a mutant can hang is better
// given a check that fails.
var hanging []string

// moreSeeds are the mutants that the simulation finds only in more schedules than -sim says, and how many it needs.
var moreSeeds = map[string]int{}

// seedsOf says how many schedules of the simulation are played on a mutant; 0: its own tests are run.
func (s *scratch) seedsOf(name string) int {
	if s.seeds == 0 {
		return 0
	}
	return max(s.seeds, moreSeeds[name])
}
