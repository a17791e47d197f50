package cluster

// Version is this release of pgquorum, as semantic versioning has it.
const Version = "0.1.0"
