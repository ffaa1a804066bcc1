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
//     left + (x > threshold), which compiles to SETcc.
//   - A shallow tree is padded to a perfect one, whose children need no index at
//     all. A deep one is walked until its leaf, which is its own child.
//   - Four walks are interleaved, over four rows of a block of 64 rows for the
//     same tree, or over four trees for the same row, since one walk alone waits
//     for memory at every level.
//   - A missing value (NaN) compares false and so goes left. Where a node wants it
//     right, rows that hold a NaN are read from a copy with two columns per
//     feature, one with NaN as it is and one with +Inf instead, and the
//     nodes of a second array pick their column.
//
// What does not fit this form (BRANCH_EQ, BRANCH_NEQ and BRANCH_MEMBER, thresholds
// that are NaN or infinite where it matters) is walked node by node.
//
// Contributions of trees are added in the order of the trees, in T.
package forest
