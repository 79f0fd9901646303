package farmfile

import (
	"farmhand/internal/backup"
	"farmhand/internal/farm"
	"farmhand/internal/objects"
	"farmhand/internal/restore"
	"farmhand/internal/service"
)

// Flavor is whose server it is.
type Flavor string

// The flavors.
const (
	MariaDB Flavor = "mariadb"
	Oracle  Flavor = "mysql"
)

func (Flavor) choices() []string { return []string{string(MariaDB), string(Oracle)} }

// Durability is what becomes of writes when too few replicas are left to
// acknowledge them.
type Durability string

// The choices for writes that no replica acknowledges.
const (
	Lossless  Durability = "lossless"  // they wait
	Available Durability = "available" // after a time they go on without
)

func (Durability) choices() []string { return []string{string(Lossless), string(Available)} }

// MySQL is a primary and its replicas.
type MySQL struct {
	Flavor         Flavor      `yaml:"flavor" about:"whose database server it is"`
	ProgramRoot    string      `yaml:"program_root" is:"path?" about:"a directory with an unpacked MySQL and its libraries, if the servers' machines have none installed; \"\" for what is installed"`
	Port           int         `yaml:"port" is:"1..65535" about:"the port that the servers listen on"`
	BufferPool     Size        `yaml:"buffer_pool" is:"5MiB..16TiB" about:"memory for InnoDB's pages"`
	Durability     Durability  `yaml:"durability" about:"what writes do while no replica acknowledges them: lossless waits, available goes on after a time"`
	AvailableAfter Duration    `yaml:"available_after" is:"1s..1h" about:"the time after which writes go on without a replica, if durability is available"`
	RestoreFrom    RestoreFrom `yaml:"restore_from" about:"what a cluster that has no data yet begins with; nothing afterwards"`
}

// RestoreFrom is a backup that a new cluster begins with.
type RestoreFrom struct {
	Store        string `yaml:"store" is:"store?" about:"where the backup is, as in backups.store, but another place than that; \"\" to begin empty"`
	Cluster      string `yaml:"cluster" about:"the name of the cluster that it is of: of that farm's role of kind mysql"`
	To           string `yaml:"to" about:"the moment: latest, a time such as 2026-11-28T17:04:05Z, or a GTID position"`
	Backup       string `yaml:"backup" about:"the full backup to restore first; \"\" for the best"`
	IdentityFile string `yaml:"identity_file" is:"path?" about:"the file, on the database servers, with the age secret keys of encrypted backups"`
}

func (r *RestoreFrom) check(p *service.Problems, path string, f *Farm) {
	if r.Store == "" {
		return
	}
	if _, err := objects.ParseURL(r.Store); err != nil {
		p.Add(path+".store", "%v", err)
	}
	if err := farm.CheckName(r.Cluster); err != nil {
		p.Add(path+".cluster", "%v", err)
	}
	if _, err := restore.ParseTarget(r.To); err != nil {
		p.Add(path+".to", "%v", err)
	}
	if r.Backup != "" {
		if err := backup.CheckID(r.Backup); err != nil {
			p.Add(path+".backup", "%v", err)
		}
	}
	if r.Store == f.Backups.Store && r.Cluster == f.Database() {
		p.Add(path+".store", "this farm's own backups go there (backups.store), and two histories in one place cannot be told apart; give one of them another prefix")
	}
}

func checkMySQL(p *service.Problems, path string, r *Role, f *Farm) {
	r.Parameters.MySQL.RestoreFrom.check(p, path+".parameters.restore_from", f)
	if r.Parameters.MySQL.Durability == Lossless && r.Count.Min < 2 {
		p.Add(path+".parameters.durability", "lossless needs a replica at all times, and the least number of servers is %d; expected a count of 2 or more, or available", r.Count.Min)
	}
	for name, other := range sorted(f.Roles) {
		if other.Kind != MySQLKind {
			continue
		}
		if first := "roles." + name; first != path {
			p.Add(path+".kind", "%s is of kind mysql already; a farm has one role of that kind", first)
		}
		return
	}
}
