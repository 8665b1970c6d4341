// Package oci makes machines on this host with an OCI runtime program: gVisor
// (runsc, the default), whose machines have a kernel of their own in user
// space, or runc, whose machines share the host's kernel and are faster.
//
// Four ideas carry it. A disk is a directory of overlayfs layers, and whether
// it is frozen is only a matter of who names it: a snapshot is one small file
// written, whatever the disk's size. Ids on disks are those inside the machine,
// always: under runc the layers, the writable one too, are seen through
// id-mapped mounts, so root in the machine is nobody on the host and yet both
// engines stand on the same disks. The line is a socket in a small directory
// that host and machine share, so that dialing is one connect. And nothing of
// a running machine hangs on our process: namespaces are pinned as files,
// processes have a session of their own, and each change is written down
// before it is made, so that whoever comes after kill -9 can finish it.
//
// The package does not talk to the guest, forward packets or read images: that
// is for packages guest, egress and image. It works on Linux, as root.
package oci
