package main

import "slices"

// mutant is one broken rule: the text old stands in file exactly once and becomes new; the tests of pkg whose names match
// run must then fail. run is narrow, so that each takes seconds.
type mutant struct {
	name, rule string
	file       string
	old, new   string
	pkg, run   string
}

// mutants are the rules, broken. Who adds a rule adds its mutant.
var mutants = slices.Concat(mutantsOfLease, mutantsOfGuard, mutantsOfTakeOver, mutantsOfPromises, mutantsOfRules, mutantsOfTheRest)
