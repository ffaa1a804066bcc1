package redis

// Freeze stops the driver's members from telling the server that they are alive, as SIGSTOP does.
func (d *Driver) Freeze(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.consumers {
		if on {
			c.syncing.Lock()
		} else {
			c.syncing.Unlock()
		}
	}
}
