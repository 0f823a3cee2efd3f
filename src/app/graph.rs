//! The social graph that workloads draw from: the data set's own, or one of the same size from a seed.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Users and who follows whom. Ids begin at 1; an edge (a, b) means that both follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Number of users.
    pub nodes: u32,
    /// Pairs with a > b, no pair twice.
    pub edges: Vec<(u32, u32)>,
}

/// Users and edges of socfb-Reed98, the data set of the workloads.
const NODES: u32 = 962;
const EDGES: usize = 18_812;

/// The most friends a user has in it.
const DEGREE_LIMIT: u32 = 313;

impl Graph {
    /// Parses a Matrix Market edge list: a line `nodes nodes edges`, then a line `a b` for each edge.
    ///
    /// # Errors
    /// A lower-case fragment with the line's number.
    pub fn parse(text: &str) -> Result<Graph, String> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('%') && !line.trim().is_empty());
        let number = |line: usize, word: Option<&str>| {
            word.and_then(|word| word.parse::<u32>().ok()).ok_or(format!("line {}: expected numbers", line + 1))
        };
        let (at, header) = lines.next().ok_or("the file is empty")?;
        let nodes = number(at, header.split_whitespace().next())?;
        let mut edges = Vec::new();
        for (at, line) in lines {
            let mut words = line.split_whitespace();
            let (a, b) = (number(at, words.next())?, number(at, words.next())?);
            if a == 0 || b == 0 || a > nodes || b > nodes {
                return Err(format!("line {}: user ids are 1..{nodes}", at + 1));
            }
            edges.push((a.max(b), a.min(b)));
        }
        Ok(Graph { nodes, edges })
    }

    /// A graph of the data set's size with a similar spread of degrees, always the same.
    pub fn synthetic() -> Graph {
        let mut draws = Pcg64Mcg::seed_from_u64(u64::from(NODES));
        let mut degree = vec![0_u32; NODES as usize + 1];
        let mut seen = std::collections::HashSet::with_capacity(EDGES);
        let mut edges = Vec::with_capacity(EDGES);
        let mut add = |a: u32, b: u32, degree: &mut Vec<u32>, edges: &mut Vec<(u32, u32)>| {
            let edge = (a.max(b), a.min(b));
            let full = degree[a as usize] >= DEGREE_LIMIT || degree[b as usize] >= DEGREE_LIMIT;
            if a != b && !full && seen.insert(edge) {
                degree[a as usize] += 1;
                degree[b as usize] += 1;
                edges.push(edge);
            }
        };
        // Everybody has a friend; the other edges prefer the users in front (weights fall with the square).
        for user in 2..=NODES {
            add(user, draws.random_range(1..user), &mut degree, &mut edges);
        }
        let pick = |draws: &mut Pcg64Mcg| {
            let u: f64 = draws.random();
            1 + ((u * u * f64::from(NODES)) as u32).min(NODES - 1)
        };
        while edges.len() < EDGES {
            let (a, b) = (pick(&mut draws), draws.random_range(1..=NODES));
            add(a, b, &mut degree, &mut edges);
        }
        Graph { nodes: NODES, edges }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_synthetic_graph_has_the_data_sets_size() {
        let graph = Graph::synthetic();
        assert_eq!((graph.nodes, graph.edges.len()), (962, 18_812));
        let mut degree = vec![0; 963];
        for &(a, b) in &graph.edges {
            assert!(a > b && b >= 1 && a <= 962);
            degree[a as usize] += 1;
            degree[b as usize] += 1;
        }
        let unique: std::collections::HashSet<_> = graph.edges.iter().collect();
        assert_eq!(unique.len(), 18_812);
        assert!(degree[1..].iter().all(|&d| (1..=313).contains(&d)));
        assert_eq!(graph, Graph::synthetic());
    }

    #[test]
    fn edge_lists_are_read_and_faults_named() {
        let graph = Graph::parse("3 3 2\n2 1\n3 1\n").unwrap();
        assert_eq!((graph.nodes, graph.edges), (3, vec![(2, 1), (3, 1)]));
        assert_eq!(Graph::parse("3 3 2\n2 x\n").unwrap_err(), "line 2: expected numbers");
        assert_eq!(Graph::parse("3 3 2\n4 1\n").unwrap_err(), "line 2: user ids are 1..3");
        assert!(Graph::parse("").is_err());
    }
}
