// Package attribution says what each feature did to the sum of an ensemble of decision trees.
//
// Covers, the share of a background sample that passes each node, define what the ensemble is worth
// while only some features S of a row are known: at a split on a known feature the row's own
// child counts, at any other both children do, by their covers. Base is that worth for no feature.
// It is the game of Lundberg et al., "From local explanations to global understanding with
// explainable AI for trees" (2020), called path-dependent there.
//
// Plan.Shapley gives its Shapley values, exactly. Where features enter a leaf's weight as a product, as they do
// here, Owen's integral along the diagonal of the multilinear extension ("Multilinear
// extensions of games", 1972) has a polynomial of t under it, of a degree below the number m of
// different features on a path, so that Gauss's quadrature with ⌈m/2⌉ points is exact. At each point t,
//
//	H(node) = a·H(one child) + (1−a)·H(other child)
//
// is the worth below a node, and the node's own feature gets C·b·(H(one child) − H(other child)), where C is the
// product of a's on the way to the node. For the first split on a feature of a path, whose one child has cover z
// and is the row's (o=1) or not (o=0), a = z·(1−t) + o·t and b = o − z; a later split continues where the feature's earlier
// one left off. So a row costs two passes over the nodes of each tree, a few operations a point, whatever the
// path that it takes: the linear time of Yu et al., "Linear TreeShap" (2022), without divisions.
// Eight rows go through a tree together, on AVX2 where the machine has it, and all rows of a call before the next
// tree. What a row gets does not depend on the rows beside it.
//
// Plan.Path follows each row's own path and gives every split the change of the worth of the node
// (Saabas, "Interpreting random forests", 2014). The changes along the path to each leaf are kept
// as a table.
package attribution
