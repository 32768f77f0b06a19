//! The paths that a walk pushes: closures that overlap in every way that matters to a collector.
//!
//! Contents are made of blocks that others have as well. There are paths of their own, next
//! versions (some blocks are others), rebuilds (the same but for the store hashes inside: the same
//! chunks with other slot values) and twins (the very same NAR under another name).

use std::collections::BTreeSet;

use snowbank_core::{chunk::ChunkName, hash::NarHash};
use snowbank_harness::{
    Random,
    craft::{Deposit, Node},
};

/// A path, by its place in the universe: higher ones refer to lower ones only.
pub(super) type Member = usize;

/// Bytes that a block may have. Several of the largest share chunks wherever they stand.
const BLOCK_BYTES: [usize; 4] = [300, 5_000, 40_000, 260_000];
/// A closure is no larger than this, for the sake of speed.
const MAX_IN_CLOSURE: usize = 10;

/// What a path is made of.
#[derive(Clone, Debug)]
struct Recipe {
    blocks: Vec<usize>,
    references: Vec<Member>,
    refers_to_itself: bool,
}

/// A path that there is to push.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) deposit: Deposit,
    pub(super) nar_hash: NarHash,
    pub(super) chunks: BTreeSet<ChunkName>,
    recipe: Recipe,
}

/// All paths so far.
#[derive(Debug, Default)]
pub(super) struct Universe {
    paths: Vec<Path>,
    blocks: Vec<Vec<u8>>,
}

impl Universe {
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    pub(super) fn path(&self, member: Member) -> &Path {
        &self.paths[member]
    }

    /// Whether another path has the same NAR.
    pub(super) fn is_twin(&self, member: Member) -> bool {
        let hash = self.paths[member].nar_hash;
        self.paths.iter().filter(|path| path.nar_hash == hash).count() > 1
    }

    pub(super) fn store_path(&self, member: Member) -> &str {
        &self.paths[member].deposit.store_path
    }

    pub(super) fn find(&self, store_path: &str) -> Option<Member> {
        self.paths.iter().position(|path| path.deposit.store_path == store_path)
    }

    /// What a path refers to, less itself.
    pub(super) fn references(&self, member: Member) -> &[Member] {
        &self.paths[member].recipe.references
    }

    /// All that these paths need, themselves included; references come before referrers.
    pub(super) fn closure(&self, roots: impl IntoIterator<Item = Member>) -> BTreeSet<Member> {
        let mut next: Vec<Member> = roots.into_iter().collect();
        let mut found = BTreeSet::new();
        while let Some(member) = next.pop() {
            if found.insert(member) {
                next.extend_from_slice(self.references(member));
            }
        }
        found
    }

    /// Makes another path; gives its place.
    pub(super) fn grow(&mut self, random: &mut Random) -> Member {
        let model = pick(random, self.paths.len());
        let (recipe, what) = match (random.below(8), model) {
            (0 | 1, Some(model)) => (self.next_version(random, model), "version"),
            (2 | 3, Some(model)) => (self.rebuild(random, model), "rebuild"),
            (4, Some(model)) => {
                (Recipe { refers_to_itself: false, ..self.paths[model].recipe.clone() }, "twin")
            }
            _ => (self.fresh(random), "fresh"),
        };
        let store_path = format!("/nix/store/{}-{what}-{}", random.hash_chars(), self.paths.len());
        let nar = self.contents(&recipe, &store_path).nar();
        let mut deposit = Deposit::at(store_path, nar);
        deposit.references = recipe
            .references
            .iter()
            .map(|member| self.paths[*member].deposit.base_name().to_owned())
            .collect();
        if recipe.refers_to_itself {
            deposit.references.push(deposit.base_name().to_owned());
        }
        let chunks = deposit.encoded.iter().map(|chunk| chunk.header.name).collect();
        self.paths.push(Path { nar_hash: deposit.nar_hash(), deposit, chunks, recipe });
        self.paths.len() - 1
    }

    fn fresh(&mut self, random: &mut Random) -> Recipe {
        let blocks = (0..=random.below(3)).map(|_| self.block(random)).collect();
        let count = usize::try_from(random.below(4)).unwrap_or(0);
        let references = self.some(random, count);
        Recipe { blocks, references, refers_to_itself: random.below(3) == 0 }
    }

    fn next_version(&mut self, random: &mut Random, model: Member) -> Recipe {
        let mut recipe = self.paths[model].recipe.clone();
        if let Some(place) = pick(random, recipe.blocks.len()) {
            recipe.blocks[place] = self.new_block(random);
        }
        recipe
    }

    fn rebuild(&self, random: &mut Random, model: Member) -> Recipe {
        let recipe = &self.paths[model].recipe;
        let others = self.some(random, recipe.references.len());
        // As many as before, so that they stand at the same places.
        let references = if others.len() == recipe.references.len() {
            others
        } else {
            recipe.references.clone()
        };
        Recipe { references, ..recipe.clone() }
    }

    /// Up to `count` paths that were made lately, as far as the closure stays small.
    fn some(&self, random: &mut Random, count: usize) -> Vec<Member> {
        let mut chosen = BTreeSet::new();
        for _ in 0..3 * count {
            let Some(back) = pick(random, self.paths.len().min(30)) else { break };
            let member = self.paths.len() - 1 - back;
            let with_it = self.closure(chosen.iter().copied().chain([member]));
            if chosen.len() < count && with_it.len() < MAX_IN_CLOSURE {
                chosen.insert(member);
            }
        }
        chosen.into_iter().collect()
    }

    /// A block, half of the time one that there is.
    fn block(&mut self, random: &mut Random) -> usize {
        match pick(random, self.blocks.len()) {
            Some(known) if random.below(2) == 0 => known,
            _ => self.new_block(random),
        }
    }

    fn new_block(&mut self, random: &mut Random) -> usize {
        let bytes = BLOCK_BYTES[pick(random, BLOCK_BYTES.len()).unwrap_or(0)];
        // Half noise and half text, so that stored bytes and raw bytes differ.
        let block = [random.bytes(bytes / 2), random.text(bytes / 2)].concat();
        self.blocks.push(block);
        self.blocks.len() - 1
    }

    /// A file for each block, and in it the store paths that it refers to, always in the same
    /// places.
    fn contents(&self, recipe: &Recipe, own: &str) -> Node {
        let referred: Vec<&str> = recipe
            .references
            .iter()
            .map(|member| self.store_path(*member))
            .chain(recipe.refers_to_itself.then_some(own))
            .collect();
        let file = |(number, block): (usize, &usize)| {
            let block = &self.blocks[*block];
            let mut bytes = block[..block.len() / 2].to_vec();
            for path in referred.iter().skip(number).step_by(recipe.blocks.len()) {
                // Only the hash differs from one build to another.
                bytes.extend_from_slice(&path.as_bytes()[..43]);
                bytes.extend_from_slice(b"-dependency/lib ");
            }
            bytes.extend_from_slice(&block[block.len() / 2..]);
            (format!("file-{number}").into_bytes(), Node::File(bytes))
        };
        Node::Folder(recipe.blocks.iter().enumerate().map(file).collect())
    }
}

/// A place in a list of this length; none in an empty one.
pub(super) fn pick(random: &mut Random, len: usize) -> Option<usize> {
    (len > 0).then(|| usize::try_from(random.below(len as u64)).unwrap_or(0))
}
