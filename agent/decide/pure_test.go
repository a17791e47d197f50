package decide

import (
	"reflect"
	"testing"
)

// A decision changes nothing that it looks at: the view is shared by everybody who reads it.
func TestDecisionsChangeNothing(t *testing.T) {
	for name, base := range map[string]func() *Observation{
		"holder": func() *Observation { return healthy("n1") }, "standby": func() *Observation { return healthy("n3") },
		"taker": taking, "handed": handed, "five": five, "two": two,
	} {
		o := base()
		o.Request = &Request{Leaving: true}
		Next(o)
		Choose(o)
		WantedRule(o)
		AcquireRule(o, o.Self, Valid(o.View, o.TakeOver.Term, o.TakeOver.Promises))
		StandbyList(o)
		WantsOut(o)
		MayStop(o)
		CheckSwitchover(o)
		want := base()
		want.Request = &Request{Leaving: true}
		if !reflect.DeepEqual(o, want) {
			t.Errorf("%s: the observation is %+v, was %+v", name, o, want)
		}
	}
}
