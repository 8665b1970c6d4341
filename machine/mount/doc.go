// Package mount makes mounts by the kernel's mount API (fsopen(2), open_tree(2),
// mount_setattr(2)): overlays, and binds that can show files under other owners.
// It takes all mounts below a directory away at once, and lets whoever called
// decide when what was written to them goes to the disk.
//
// It needs root. What is mounted is nobody's: a mount stays until Detach.
package mount
