package cluster

import "time"

// WatchdogMode says what a node does with its watchdog device. The words are Patroni's.
type WatchdogMode string

// The modes.
const (
	WatchdogOff       WatchdogMode = "off"       // the device is never touched
	WatchdogAutomatic WatchdogMode = "automatic" // used when it can be; no taker relies on it
	WatchdogRequired  WatchdogMode = "required"  // no primary without it; takers wait until it has fired
)

// MaxWatchdog bounds what a key may record of a watchdog, and so how long a taker waits for one.
const MaxWatchdog = 10 * time.Minute

// WatchdogStatus is what the guard says of its watchdog.
type WatchdogStatus struct {
	Mode    WatchdogMode  `json:"mode,omitempty"`
	Active  bool          `json:"active,omitempty"`  // it is open: the machine is reset when the guard feeds it no more
	Timeout time.Duration `json:"timeout,omitempty"` // of the open device, as its driver has it
	Endless bool          `json:"endless,omitempty"` // its driver cannot stop it any more (nowayout)
	Problem string        `json:"problem,omitempty"` // why it cannot be used; empty: it can, or nobody asks for it
}

// Missing says why this node may not become a primary for want of a watchdog; empty: it may.
func (s WatchdogStatus) Missing() string {
	if s.Mode != WatchdogRequired || s.Problem == "" {
		return ""
	}
	return "its watchdog is required and cannot be used: " + s.Problem
}
