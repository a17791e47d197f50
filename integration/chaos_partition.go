package integration

import "fmt"

// partition cuts the network in the shape that was drawn.
func (r *chaosRun) partition(b *begun, hosts []*chaosHost, f Fault) error {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	drops := shapeOf(f, names, r.ports(names[f.Target]))
	if f.What == shapeLink || f.What == shapeLinkOne {
		b.hosts = append(b.hosts, hosts[f.Peer])
	}
	if f.What == shapeRing {
		b.hosts = hosts
	}
	return r.lay(b, drops)
}

// shapeOf gives the wires that a partition cuts. names are the nodes by role, ports all that the target has a wire to.
func shapeOf(f Fault, names, ports []string) (drops []Drop) {
	target := names[f.Target]
	switch f.What {
	case shapeFull, shapeIn, shapeOut:
		way := map[string]string{shapeFull: "both", shapeIn: "in", shapeOut: "out"}[f.What]
		for _, port := range ports {
			drops = append(drops, ways(port, target, way, 100)...)
		}
	case shapeNodes:
		drops = apart([]string{target}, names)
	case shapeLink:
		drops = ways(names[f.Peer], target, "both", 100)
	case shapeLinkOne:
		drops = ways(names[f.Peer], target, "in", 100)
	case shapeMinority:
		minority := make([]string, 0, len(names)/2)
		for i := range len(names) / 2 {
			minority = append(minority, names[(f.Target+i)%len(names)])
		}
		drops = apart(minority, names)
	case shapeRing:
		drops = ring(names)
	default:
		panic(fmt.Sprintf("%s: no such partition", f.What))
	}
	return drops
}

// ways gives the drops of one wire, by the direction that the host at its end sees.
func ways(port, host, way string, percent int) (drops []Drop) {
	if way != "out" {
		drops = append(drops, Drop{port, host, percent})
	}
	if way != "in" {
		drops = append(drops, Drop{host, port, percent})
	}
	return drops
}

// apart cuts some nodes off from the others.
func apart(some, names []string) (drops []Drop) {
	inside := map[string]bool{}
	for _, name := range some {
		inside[name] = true
	}
	for _, a := range some {
		for _, b := range names {
			if !inside[b] {
				drops = append(drops, ways(b, a, "both", 100)...)
			}
		}
	}
	return drops
}

// ring leaves each node its two neighbours. Of three that would be everybody: there each hears only the one before it.
func ring(names []string) (drops []Drop) {
	n := len(names)
	for i := range n {
		for j := range n {
			next, before := j == (i+1)%n, i == (j+1)%n
			if i != j && !next && (n == 3 || !before) {
				drops = append(drops, Drop{names[i], names[j], 100})
			}
		}
	}
	return drops
}
