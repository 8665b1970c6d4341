// Package buildkit makes images from Dockerfiles: it is a machine.Builder over
// BuildKit's daemon, which it keeps as a child of its own.
//
// Four ideas carry it. The daemon lives in namespaces of its own and sees a root
// file system made for it, so that it ends with our process, however that ends,
// and leaves no process, mount or network behind; what stays is its cache of
// steps, in a directory, for the next daemon to go on with. Its network is a
// link that the caller ends, as a machine's is: pulls and commands go out where
// the policy of the build lets them, and nowhere when no build is under way.
// Commands run under the engine that machines run under. And one build runs at
// a time: the cache, which all builds share, has one daemon, a daemon has one
// network, and two policies cannot hold on one network.
//
// The daemon is spoken to by package solver. The images go into an image.Store. The package does not read Dockerfiles for
// what they need; that is package dockerfile's.
package buildkit
