//! In which order services are started: waves, each of which needs only what came before it.

use indexmap::IndexMap;

use super::model::File;

impl File {
    /// What `service` waits for: `depends_on`, `links` and `network_mode: service:x`.
    pub fn dependencies(&self, service: &str) -> Vec<&str> {
        let Some(service) = self.services.get(service) else { return Vec::new() };
        let shared = service.network_mode.as_deref().and_then(|mode| mode.strip_prefix("service:"));
        let named = service.depends_on.keys().chain(service.links.iter().map(|(name, _)| name)).map(String::as_str);
        let mut names: Vec<&str> = Vec::new();
        for name in named.chain(shared) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The services in waves: those of one wave may be started side by side, after all of the waves before.
    ///
    /// # Errors
    /// A fragment that names a circle of dependencies (`a -> b -> a`).
    pub fn waves(&self) -> Result<Vec<Vec<&str>>, String> {
        let mut depth: IndexMap<&str, usize> = IndexMap::new();
        for name in self.services.keys() {
            self.depth(name, &mut depth, &mut Vec::new())?;
        }
        let mut waves = vec![Vec::new(); depth.values().max().map_or(0, |deepest| deepest + 1)];
        for name in self.services.keys() {
            waves[depth[name.as_str()]].push(name.as_str());
        }
        Ok(waves)
    }

    fn depth<'a>(
        &'a self,
        name: &'a str,
        known: &mut IndexMap<&'a str, usize>,
        above: &mut Vec<&'a str>,
    ) -> Result<usize, String> {
        if let Some(depth) = known.get(name) {
            return Ok(*depth);
        }
        if let Some(at) = above.iter().position(|other| *other == name) {
            let circle = [&above[at..], &[name]].concat();
            return Err(format!("services wait for each other in a circle: {}", circle.join(" -> ")));
        }
        above.push(name);
        let mut depth = 0;
        for other in self.dependencies(name) {
            depth = depth.max(self.depth(other, known, above)? + 1);
        }
        above.pop();
        known.insert(name, depth);
        Ok(depth)
    }
}
