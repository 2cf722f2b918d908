//! A layer as the catalog knows it: who it is, what it depends on, and where its body is.

use crate::body::LayerBody;
use crate::ids::{EntryId, LayerId};
use crate::live::Live;
use cow_tree::units::Tag;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where the changing part of a layer is.
#[derive(Debug)]
pub(crate) enum Place {
    /// Here: nobody has it open.
    Catalog(Box<LayerBody>),
    /// Behind the lock of an open volume.
    Open(Arc<Live>),
}

#[derive(Debug)]
pub(crate) struct Layer {
    /// The name that keeps it.
    pub(crate) entry: Option<EntryId>,
    pub(crate) sealed: bool,
    /// Layers whose blocks this one's tree may reach.
    pub(crate) deps: BTreeSet<LayerId>,
    pub(crate) place: Place,
    /// Being freed: keys below the cursor are done.
    pub(crate) freeing: Option<u64>,
    /// Readers that keep it: open exports of a snapshot or version.
    pub(crate) pins: u32,
    /// The tag its first block would have had; kept for the line counter.
    first: Tag,
}

impl Layer {
    pub(crate) fn new(body: LayerBody, sealed: bool, deps: BTreeSet<LayerId>) -> Self {
        let first = body.ownership.tag;
        Self {
            entry: None,
            sealed,
            deps,
            place: Place::Catalog(Box::new(body)),
            freeing: None,
            pins: 0,
            first,
        }
    }

    pub(crate) fn first_tag(&self) -> Tag {
        self.first
    }

    /// Looks at the body wherever it is.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&LayerBody) -> R) -> R {
        match &self.place {
            Place::Catalog(body) => look(body),
            Place::Open(live) => look(&live.read()),
        }
    }

    /// Changes the body wherever it is.
    pub(crate) fn write<R>(&mut self, change: impl FnOnce(&mut LayerBody) -> R) -> R {
        match &mut self.place {
            Place::Catalog(body) => change(body),
            Place::Open(live) => change(&mut live.write()),
        }
    }

    /// Moves the body behind the lock of an open volume, unless it is there.
    pub(crate) fn open(&mut self, make: impl FnOnce(LayerBody) -> Live) -> Arc<Live> {
        let live = match &mut self.place {
            Place::Open(live) => live.clone(),
            Place::Catalog(body) => Arc::new(make(body.take())),
        };
        self.place = Place::Open(live.clone());
        live
    }

    /// Takes the body back when nobody has the volume open. The caller holds one handle, the catalog another.
    pub(crate) fn close(&mut self, live: &Arc<Live>) {
        if self.pins == 0 && !live.is_attached() && Arc::strong_count(live) == 2 {
            let body = live.write().take();
            self.place = Place::Catalog(Box::new(body));
        }
    }

    pub(crate) fn live(&self) -> Option<&Arc<Live>> {
        match &self.place {
            Place::Catalog(_) => None,
            Place::Open(live) => Some(live),
        }
    }

    pub(crate) fn is_sweeping(&self) -> bool {
        self.freeing.is_some() || self.read(|body| !body.ownership.incoming.is_empty())
    }
}
