package config

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// note is what is said of a key that stands in Patroni's files, or in another place of ours, and has no effect here.
type note struct {
	text   string
	refuse bool // to go on without it would do something other than the operator asked for
	// quiet: nothing is said where the value asks for nothing: false, off, none, 0 or empty
	quiet bool
}

const raftInstead = "has no meaning here: pgquorum keeps the cluster's state by itself, in Raft; ignored"

// foreignKeys are the keys that Load knows and does not use, by path. Source: Patroni 4.1, docs/yaml_configuration.rst
// and docs/dynamic_configuration.rst.
var foreignKeys = map[string]note{
	"etcd": {text: raftInstead}, "etcd3": {text: raftInstead}, "consul": {text: raftInstead}, "zookeeper": {text: raftInstead},
	"exhibitor": {text: raftInstead}, "kubernetes": {text: raftInstead}, "namespace": {text: raftInstead},
	"raft.self_addr":     {text: "is raft.listen and raft.advertise here; ignored"},
	"raft.bind_addr":     {text: "is raft.listen here; ignored"},
	"raft.partner_addrs": {text: "is raft.members here; ignored"},
	"raft.password":      {text: "has no meaning here: raft.tls protects the channel between nodes; ignored"},
	"ttl":                {text: "has no meaning here: the lease follows from raft.heartbeat_timeout; ignored"},
	"loop_wait":          {text: "has no meaning here: the agent wakes on events; ignored"},
	"retry_timeout":      {text: "has no meaning here: there is no store to retry; ignored"},
	"ctl":                {text: "has no meaning here: the command line takes --url, PGQUORUM_URL or this file; ignored"},
	"citus":              {text: "is not part of pgquorum; it would run this node as a cluster of its own", refuse: true},

	"bootstrap.dcs.ttl":                      {text: "has no meaning here: the lease follows from raft.heartbeat_timeout; ignored"},
	"bootstrap.dcs.loop_wait":                {text: "has no meaning here: the agent wakes on events; ignored"},
	"bootstrap.dcs.retry_timeout":            {text: "has no meaning here: there is no store to retry; ignored"},
	"bootstrap.dcs.failsafe_mode":            {text: "has no meaning here: there is no outside store to lose; ignored"},
	"bootstrap.dcs.max_timelines_history":    {text: "has no meaning here: every timeline is kept; ignored"},
	"bootstrap.dcs.maximum_lag_on_syncnode":  {text: "has no meaning here: which standbys confirm follows from their answers; ignored"},
	"bootstrap.dcs.master_start_timeout":     {text: "is called primary_start_timeout; ignored"},
	"bootstrap.dcs.master_stop_timeout":      {text: "is called primary_stop_timeout; ignored"},
	"bootstrap.dcs.heartbeat_timeout":        {text: "stands at raft.heartbeat_timeout, which gives its first value", refuse: true},
	"bootstrap.dcs.lease_ttl":                {text: "stands at raft.lease_ttl, which gives its first value", refuse: true},
	"bootstrap.dcs.standby_cluster":          {text: "is not in this version; without it the node would become a primary of its own", refuse: true, quiet: true},
	"bootstrap.dcs.pause":                    {text: "is not in this version; failover would stay on", refuse: true, quiet: true},
	"bootstrap.dcs.check_timeline":           {text: "is always so here: a node on an unknown timeline is never promoted; ignored"},
	"bootstrap.dcs.member_slots_ttl":         {text: "is not in this version; slots of other members are kept while they are members", quiet: true},
	"bootstrap.dcs.slots":                    {text: "is not in this version; permanent slots would be lost at a failover", refuse: true, quiet: true},
	"bootstrap.dcs.ignore_slots":             {text: "is not in this version; ignored: only slots of members are ever dropped", quiet: true},
	"bootstrap.dcs.postgresql.use_slots":     {text: "is always so here; ignored"},
	"bootstrap.dcs.postgresql.use_pg_rewind": {text: "stands at postgresql.use_pg_rewind; ignored here"},
	"bootstrap.dcs.postgresql.recovery_conf": {text: "has no meaning here: standbys are configured by the agent; ignored"},
	"bootstrap.dcs.postgresql.pg_ident":      {text: "is not in this version; ignored", quiet: true},
	"bootstrap.pg_hba":                       {text: "stands at postgresql.pg_hba or bootstrap.dcs.postgresql.pg_hba; ignored here"},
	"bootstrap.users":                        {text: "was removed from Patroni 4 too: create users with SQL; ignored"},
	"bootstrap.method":                       {text: "is not in this version: a new cluster is made by initdb", refuse: true, quiet: true},
	"bootstrap.post_bootstrap":               {text: "is not in this version; run it by hand once the cluster stands", refuse: true, quiet: true},
	"bootstrap.post_init":                    {text: "is not in this version; run it by hand once the cluster stands", refuse: true, quiet: true},

	"restapi.ciphers":                                        {text: "has no meaning here: Go's TLS chooses; ignored"},
	"restapi.http_extra_headers":                             {text: "is not in this version; ignored", quiet: true},
	"restapi.https_extra_headers":                            {text: "is not in this version; ignored", quiet: true},
	"restapi.request_queue_size":                             {text: "has no meaning here; ignored"},
	"restapi.server_tokens":                                  {text: "has no meaning here; ignored"},
	"restapi.keyfile_password":                               {text: "is not in this version; store the key without a password, readable by the agent alone", refuse: true, quiet: true},
	"restapi.allowlist_include_members":                      {text: "is not in this version; name the members' networks in restapi.allowlist", refuse: true, quiet: true},
	"postgresql.proxy_address":                               {text: "is not in this version; ignored", quiet: true},
	"postgresql.config_dir":                                  {text: "has no meaning here: the configuration stands in the data directory", refuse: true, quiet: true},
	"postgresql.custom_conf":                                 {text: "is not in this version; name the settings in postgresql.parameters", refuse: true, quiet: true},
	"postgresql.pgpass":                                      {text: "has no meaning here: the agent keeps its own, under raft.data_dir; ignored"},
	"postgresql.pg_ident":                                    {text: "is not in this version; ignored", quiet: true},
	"postgresql.pg_ctl_timeout":                              {text: "has no meaning here: every operation has its own deadline; ignored"},
	"postgresql.use_unix_socket":                             {text: "is always so here; ignored"},
	"postgresql.use_unix_socket_repl":                        {text: "has no meaning here: standbys stream over TCP; ignored"},
	"postgresql.basebackup":                                  {text: "is not in this version; ignored", quiet: true},
	"postgresql.recovery_conf":                               {text: "has no meaning here: standbys are configured by the agent; ignored"},
	"postgresql.bin_name":                                    {text: "is not in this version; programs are looked for under their own names in postgresql.bin_dir", refuse: true, quiet: true},
	"postgresql.create_replica_methods":                      {text: "is not in this version; standbys are made by pg_basebackup", quiet: true},
	"postgresql.callbacks":                                   {text: "is not in this version; nothing would be called", refuse: true, quiet: true},
	"postgresql.pre_promote":                                 {text: "is not in this version; nothing would be called", refuse: true, quiet: true},
	"postgresql.before_stop":                                 {text: "is not in this version; nothing would be called", refuse: true, quiet: true},
	"postgresql.pgbouncer":                                   {text: "is not in this version; nothing would be paused", refuse: true, quiet: true},
	"postgresql.authentication.superuser.sslmode":            {text: "is not in this version; ignored", quiet: true},
	"postgresql.remove_data_directory_on_rewind_failure":     {text: "is not in this version; a directory that cannot be rewound is kept", quiet: true},
	"postgresql.remove_data_directory_on_diverged_timelines": {text: "is not in this version; a directory that diverged is kept", quiet: true},
	"vip":                            {text: "is not in this version; the address would never be set", refuse: true, quiet: true},
	"watchdog.driver":                {text: "has no meaning here: the device is the kernel's; ignored"},
	"tags.clonefrom":                 {text: "is not in this version; clones come from the primary", quiet: true},
	"tags.replicatefrom":             {text: "is not in this version; every standby streams from the primary", refuse: true, quiet: true},
	"tags.nostream":                  {text: "is not in this version; the node would stream", refuse: true, quiet: true},
	"tags.delay":                     {text: "is not in this version; the node would not be delayed", refuse: true, quiet: true},
	"tags.sync_priority":             {text: "is not in this version; ignored", quiet: true},
	"log.type":                       {text: "is log.format here; ignored"},
	"log.traceback_level":            {text: "has no meaning here; ignored"},
	"log.dateformat":                 {text: "has no meaning here: times are RFC 3339; ignored"},
	"log.max_queue_size":             {text: "has no meaning here; ignored"},
	"log.dir":                        {text: "has no meaning here: the log goes to standard error, and from there to the journal; ignored"},
	"log.file_size":                  {text: "has no meaning here: the log goes to standard error; ignored"},
	"log.file_num":                   {text: "has no meaning here: the log goes to standard error; ignored"},
	"log.mode":                       {text: "has no meaning here: the log goes to standard error; ignored"},
	"log.loggers":                    {text: "has no meaning here; ignored"},
	"log.static_fields":              {text: "is not in this version; ignored", quiet: true},
	"log.deduplicate_heartbeat_logs": {text: "has no meaning here; ignored"},
}

// foreign says what is to be said of a key that is no key of the schema; false when nothing is known of it.
func (d *decoder) foreign(path string, at, value ast.Node) bool {
	n, known := foreignKeys[path]
	if !known {
		return false
	}
	if n.quiet && d.asksNothing(path, value) {
		return true
	}
	if n.refuse {
		d.found.refuse(d.place(at), path, "%s", n.text)
	} else {
		d.found.warn(d.place(at), path, "%s", n.text)
	}
	return true
}

// asksNothing says whether a value is false, off, none, zero or empty.
func (d *decoder) asksNothing(path string, value ast.Node) bool {
	n := d.resolve(value)
	if isNull(n) {
		return true
	}
	if text, ok := scalar(n); ok {
		switch strings.ToLower(text) {
		case "", "false", "off", "no", "none", "0":
			return true
		}
		return false
	}
	switch v := n.(type) {
	case *ast.SequenceNode:
		return len(v.Values) == 0
	case ast.MapNode:
		nothing := true
		d.pairs(n, path, func(name string, _, value ast.Node) {
			nothing = nothing && d.asksNothing(join(path, name), value)
		})
		return nothing
	}
	return false
}
