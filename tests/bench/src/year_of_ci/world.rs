//! A closure of packages that changes.

use std::fmt::Write as _;

use snowbank_harness::{
    Random,
    craft::{Deposit, Node},
};

/// Bytes of a block, which a new version may have others of.
const BLOCK: usize = 16 << 10;
/// Of how many blocks a new version has one that is another.
const CHANGED: usize = 12;

struct Package {
    /// What each of its blocks is made from.
    blocks: Vec<u64>,
    references: Vec<usize>,
    deposit: Deposit,
}

/// The packages, each of which refers to lower ones only; the last one is the root.
pub(super) struct World {
    packages: Vec<Package>,
    changed: usize,
}

impl World {
    /// A closure of so many packages and bytes.
    pub(super) fn new(random: &mut Random, packages: usize, bytes: usize) -> Self {
        let mut world = Self { packages: Vec::new(), changed: 0 };
        let blocks = (bytes / packages / BLOCK).max(1);
        for number in 0..packages {
            let mut references: Vec<usize> = if number + 1 == packages {
                (0..number).collect()
            } else {
                [2, 3].into_iter().filter_map(|part| (number / part).checked_sub(1)).collect()
            };
            references.dedup();
            let package = Package {
                blocks: (0..blocks).map(|_| random.next()).collect(),
                references,
                deposit: Deposit::at(store_path(random, number), Node::File(Vec::new()).nar()),
            };
            world.packages.push(package);
            world.build(random, number);
        }
        world
    }

    /// A new version of one package, most often of one that few refer to, and a rebuild of all that
    /// refer to it.
    pub(super) fn change(&mut self, random: &mut Random) {
        let count = self.packages.len();
        let quarter = match random.below(20) {
            0 => 0,
            1..=4 => 1 + random.below(2),
            _ => 3,
        };
        let quarters = count.div_ceil(4).max(1);
        let place = usize::try_from(quarter).unwrap_or(0) * quarters
            + usize::try_from(random.below(quarters as u64)).unwrap_or(0);
        let changed = place.min(count - 1);
        let blocks = &mut self.packages[changed].blocks;
        for _ in 0..blocks.len().div_ceil(CHANGED) {
            let block = usize::try_from(random.below(blocks.len() as u64)).unwrap_or(0);
            blocks[block] = random.next();
        }
        let mut rebuilt = vec![false; count];
        self.changed = 0;
        for number in changed..count {
            let depends =
                self.packages[number].references.iter().any(|reference| rebuilt[*reference]);
            if number == changed || depends {
                rebuilt[number] = true;
                self.build(random, number);
                self.changed += self.packages[number].encoded_bytes();
            }
        }
    }

    /// All paths, references first.
    pub(super) fn closure(&self) -> Vec<&Deposit> {
        self.packages.iter().map(|package| &package.deposit).collect()
    }

    /// Compressed bytes of the paths that the last change has made.
    #[expect(clippy::cast_precision_loss, reason = "bytes of a closure")]
    pub(super) fn bytes_of_last_change(&self) -> f64 {
        self.changed as f64
    }

    /// Gives a package the path that its contents and references now have.
    fn build(&mut self, random: &mut Random, number: usize) {
        let package = &self.packages[number];
        let referred: Vec<&Deposit> =
            package.references.iter().map(|reference| &self.packages[*reference].deposit).collect();
        let file = |(place, seed): (usize, &u64)| {
            let mut block = Random::fixed(*seed);
            let mut contents = block.text(BLOCK * 3 / 4);
            contents.extend(block.bytes(BLOCK / 4));
            if let Some(path) = referred.get(place % (referred.len() + 2)) {
                contents.extend_from_slice(path.store_path.as_bytes());
            }
            contents
        };
        let contents = package.blocks.iter().enumerate().flat_map(file).collect();
        let mut links = String::new();
        for path in &referred {
            // Writing to a String cannot fail.
            let _ = writeln!(links, "{}/lib", path.store_path);
        }
        let node = Node::Folder(vec![
            (b"contents".to_vec(), Node::File(contents)),
            (b"links".to_vec(), Node::File(links.into_bytes())),
        ]);
        let deposit = Deposit::at(store_path(random, number), node.nar()).referring_to(&referred);
        self.packages[number].deposit = deposit;
    }
}

impl Package {
    fn encoded_bytes(&self) -> usize {
        self.deposit.encoded.iter().map(|chunk| chunk.frame.len()).sum()
    }
}

/// The name is the same from build to build: nothing but the hash differs.
fn store_path(random: &mut Random, number: usize) -> String {
    format!("/nix/store/{}-package-{number}", random.hash_chars())
}
