package store

import (
	"context"
	"time"

	"github.com/errand-dev/errand"
)

// MachineState is what we last made of a machine.
type MachineState string

const (
	MachineWanted     MachineState = "wanted" // being made or running
	MachineHibernated MachineState = "hibernated"
	MachineUnwanted   MachineState = "unwanted" // to be destroyed
)

// Machine is the row of an agent's machine.
type Machine struct {
	ID     string
	Agent  errand.AgentID
	State  MachineState
	Handle string // JSON of the driver's handle; "" until it was made
	Boot   string // the guest's, "" while it does not run
	// Prepared is the boot for which start and terminals have run.
	Prepared string
	UsedAt   time.Time
}

const machineColumns = `id, agent, state, handle, boot, prepared, used_at`

func scanMachine(s scanner) (Machine, error) {
	var m Machine
	var used int64
	err := s.Scan(&m.ID, &m.Agent, &m.State, &m.Handle, &m.Boot, &m.Prepared, &used)
	m.UsedAt = fromMillis(used)
	return m, err
}

// Machines gives the rows of all machines.
func (q queries) Machines(ctx context.Context) ([]Machine, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT `+machineColumns+` FROM machines ORDER BY id`)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanMachine)
}

// Machine gives the machine of an agent, or a NotFound error.
func (q queries) Machine(ctx context.Context, agent errand.AgentID) (Machine, error) {
	m, err := scanMachine(q.db.QueryRowContext(ctx, `SELECT `+machineColumns+` FROM machines WHERE agent = $1`, agent))
	return m, notFound(err, "machine_not_found", "Agent %s has no machine yet. It gets one when its first run is prepared.", agent)
}

// PutMachine keeps a machine's row, new or changed.
func (t *Tx) PutMachine(m Machine) error {
	_, err := t.exec(`
		INSERT INTO machines (id, agent, state, handle, boot, prepared, used_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, handle = excluded.handle, boot = excluded.boot,
			prepared = excluded.prepared, used_at = excluded.used_at`,
		m.ID, m.Agent, m.State, m.Handle, m.Boot, m.Prepared, millis(m.UsedAt))
	return err
}

// DropMachine forgets a machine that is destroyed. To drop again is no error.
func (t *Tx) DropMachine(id string) error {
	_, err := t.exec(`DELETE FROM machines WHERE id = $1`, id)
	return err
}
