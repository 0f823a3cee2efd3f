//! The configuration files that travel inside the binary, so that an installed maestro works in an empty directory.

macro_rules! shipped {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../", $path)))),*]
    };
}

/// Path relative to the root, content.
pub static SHIPPED: &[(&str, &str)] = shipped![
    "configs/embedded/socialNetwork/us-eu.yml",
    "configs/embedded/socialNetwork/us-sg.yml",
    "configs/gcp/hotelReservation/three-nodes.yml",
    "configs/gcp/socialNetwork/colocated.yml",
    "configs/gcp/socialNetwork/singlenode.yml",
    "configs/gcp/socialNetwork/us-br.yml",
    "configs/gcp/socialNetwork/us-eu.yml",
    "configs/gcp/socialNetwork/us-sg.yml",
    "configs/gsd/hotelReservation/three-hosts.yml",
    "configs/gsd/socialNetwork/singlenode.yml",
    "configs/gsd/socialNetwork/socialNetwork-gsd-20201115.yml",
    "configs/gsd/socialNetwork/socialNetwork-gsd-split-cluster.yml",
    "configs/gsd/socialNetworkMini/three-hosts.yml",
    "configs/local/hotelReservation/debug.yml",
    "configs/local/socialNetwork/debug.yml",
    "configs/local/socialNetworkMini/debug.yml",
    "configs/reproduce/sosp23.yml",
    "configs/sweeps/quick.yml",
    "configs/sweeps/sosp23.yml",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn files(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else {
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }

    #[test]
    fn every_config_file_is_shipped() {
        let mut found = Vec::new();
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs"), &mut found);
        found.sort();
        let mut shipped: Vec<&str> = super::SHIPPED.iter().map(|(path, _)| *path).collect();
        shipped.sort_unstable();
        assert_eq!(shipped, found);
    }
}
