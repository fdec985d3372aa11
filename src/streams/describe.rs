//! What a topology is, as text and as a picture.

use super::{
    graph::{Graph, Kind, Node},
    plan::changelog,
};
use std::{collections::BTreeSet, fmt::Write};

/// Sub-topologies, their nodes, and what each reads, writes and keeps.
pub(super) fn text(graph: &Graph) -> String {
    let mut text = format!("{}\n", graph.application);
    for (number, nodes) in graph.components().into_iter().enumerate() {
        line(&mut text, format_args!("  sub-topology {number}"));
        for node in nodes.iter().map(|node| &graph.nodes[*node]) {
            let does = match &node.kind {
                Kind::Source { topic, .. } => format!(" reads {topic}"),
                Kind::Sink { topic: Some(topic) } => format!(" writes {topic}"),
                Kind::Sink { topic: None } => " writes topics that it chooses by record".into(),
                Kind::Processor => String::new(),
            };
            let keeps =
                if node.stores.is_empty() { String::new() } else { format!(" with {}", node.stores.join(", ")) };
            line(&mut text, format_args!("    {}{does}{keeps}", node.name));
            for child in &node.children {
                line(&mut text, format_args!("      -> {}", graph.nodes[*child].name));
            }
        }
    }
    let own = own_topics(graph);
    if !own.is_empty() {
        line(&mut text, format_args!("  topics of its own"));
        own.iter().for_each(|topic| line(&mut text, format_args!("    {topic}")));
    }
    text
}

/// The same as a flow chart of Mermaid: topics are round, stores are drums.
pub(super) fn mermaid(graph: &Graph) -> String {
    let mut text = String::from("flowchart TD\n");
    let mut topics = BTreeSet::new();
    let mut edges = Vec::new();
    for (number, nodes) in graph.components().into_iter().enumerate() {
        line(&mut text, format_args!("    subgraph sub-topology-{number}"));
        let mut stores = BTreeSet::new();
        for node in nodes.iter().map(|node| &graph.nodes[*node]) {
            line(&mut text, format_args!("        {}[\"{0}\"]", node.name));
            for store in &node.stores {
                stores.insert(store);
                edges.push(format!("{} --- store-{store}", node.name));
            }
            edges.extend(node.children.iter().map(|child| format!("{} --> {}", node.name, graph.nodes[*child].name)));
            edges.extend(edge_of_topic(node, &mut topics));
        }
        for store in stores {
            line(&mut text, format_args!("        store-{store}[(\"{store}\")]"));
        }
        line(&mut text, format_args!("    end"));
    }
    for topic in topics {
        line(&mut text, format_args!("    topic-{topic}([\"{topic}\"])"));
    }
    edges.iter().for_each(|edge| line(&mut text, format_args!("    {edge}")));
    text
}

/// The edge between a source or a sink and its topic.
fn edge_of_topic<'a>(node: &'a Node, topics: &mut BTreeSet<&'a str>) -> Option<String> {
    let (topic, edge) = match &node.kind {
        Kind::Source { topic, .. } => (topic, format!("topic-{topic} --> {}", node.name)),
        Kind::Sink { topic: Some(topic) } => (topic, format!("{} --> topic-{topic}", node.name)),
        _ => return None,
    };
    topics.insert(topic);
    Some(edge)
}

/// The topics that are made when the topology starts.
fn own_topics(graph: &Graph) -> Vec<String> {
    let repartitions = graph.repartitions().map(|one| match one.partitions {
        Some(partitions) => format!("{} in {partitions} partitions", one.topic),
        None => one.topic.to_string(),
    });
    let changelogs = graph.stores().map(|spec| {
        let topic = changelog(&graph.application, &spec.name);
        match spec.retention() {
            Some(retention) => format!("{topic} compacted, kept for {retention} ms"),
            None => format!("{topic} compacted"),
        }
    });
    repartitions.chain(changelogs).collect()
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes all that is written");
}
