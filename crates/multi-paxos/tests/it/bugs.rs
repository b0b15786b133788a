//! Mistakes that implementations of Paxos have made, each by the number it has in the pitfalls
//! list, and one test that fails if it is made here.
