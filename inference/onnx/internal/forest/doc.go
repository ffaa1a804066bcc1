// Package forest evaluates ensembles of decision trees.
//
// Build checks the trees (every child exists, no node has two parents, no
// cycle, every feature and target in range) and lays them out for speed; Sum
// then evaluates without bounds checks, allocation or branches that depend on
// the data:
//
//   - Every comparison becomes x > threshold: BRANCH_LT and BRANCH_GTE take the
//     next smaller threshold, BRANCH_GT and BRANCH_GTE swap their children. The
//     two children of a node are neighbours, so that the next node is
//     left + (x > threshold).
//   - Numbers are compared as keys, unsigned integers in the same order, whose
//     comparison leaves a carry for that addition; it takes a fraction of the time that a
//     comparison of floating-point numbers takes to reach an index.
//   - A shallow tree is padded to a perfect one, whose children need no index at
//     all. A deep one is walked until its leaf, which is its own child.
//   - Walks are interleaved, eight rows of a block of 64 rows for the same tree,
//     or four trees for the same row, since one walk alone waits for memory at
//     every level. The keys of eight rows lie side by side, feature by feature, and a
//     node holds the offset of its feature's keys.
//   - A missing value (NaN) becomes the lowest key and so goes left, or the highest where
//     all nodes want it right. Where they differ, blocks that hold a NaN get both
//     keys of every feature, and the nodes of a second array pick theirs.
//
// What does not fit this form (BRANCH_EQ, BRANCH_NEQ and BRANCH_MEMBER, thresholds
// that are NaN or infinite where it matters) is walked node by node.
//
// Contributions of trees are added in the order of the trees, in T.
package forest
