// Package lease gives consumer groups to brokers that have none of their own:
// members share the partitions of a topic over a small table with
// compare-and-set, which is all that the broker has to offer.
//
// Each member has an entry that it rewrites every Heartbeat. Each partition has
// an entry with its holder, an epoch that rises with each change of holder, and
// the group's position. Every member computes the same balanced assignment from
// the entries, keeping what is held where it is; gives up, by itself, what it
// holds beyond its share; and takes what is free and falls to it.
//
// Who is alive is told without comparing clocks of different hosts. A member
// whose entry has not changed for TTL, by the monotonic clock of who watches it,
// is removed by a conditional delete, which fails when it has come back. Only
// then is what it held free. The member itself counts TTL from before it sent
// its last successful heartbeat: it gives its leases up, by its own clock, before
// any other can have removed it, also when it was stopped meanwhile and comes
// back.
//
// That is for liveness. What makes a lease safe is that the position lies in the
// same entry as the holder: each change of holder changes the entry's version,
// so a former holder's Commit fails with a Conflict, however late it comes.
package lease
