#!/usr/bin/env bash
# The least that each part may do in Kafka, one user a part, by Kafka's own tool. Nothing is taken away that was given before.
#
#   deploy/acl/kafka.sh kafka-acls.sh --bootstrap-server HOST:PORT --command-config admin.properties
#
# Users are named after the topics' prefix (HITPARADE_TOPIC_PREFIX, else hitparade): hitparade-sessions is who runs
# `hitparade consume sessions`. docs/operations.md tells how to make them. Read and Write imply Describe.
set -euo pipefail
prefix=${HITPARADE_TOPIC_PREFIX:-hitparade}
acls=("$@")

may() { # USER OPERATION… -- RESOURCE…
	local user=$1 operations=()
	shift
	while [ "$1" != -- ]; do operations+=(--operation "$1"); shift; done
	shift
	"${acls[@]}" --add --allow-principal "User:$prefix-$user" "${operations[@]}" "$@"
}

sessions=$prefix.sessions.v1 tracks=$prefix.tracks.v1 triggers=$prefix.triggers.v1
playlists=$prefix.playlists.v1 evaluations=$prefix.evaluations.v1
late=$prefix.sessions.late.v1 dead_sessions=$prefix.sessions.dlq.v1 dead_tracks=$prefix.tracks.dlq.v1

# hitparade topics
may topics Create Describe DescribeConfigs -- --topic "$prefix." --resource-pattern-type prefixed

# hitparade produce sessions; hitparade produce tracks; or your own producers, which need no DescribeConfigs
may producer Write DescribeConfigs -- --topic "$sessions"
may catalogue Write DescribeConfigs -- --topic "$tracks"

# hitparade consume sessions
may sessions Read -- --topic "$sessions" --group "$prefix.sessions"
may sessions Write -- --topic "$late" --topic "$dead_sessions"

# hitparade consume tracks
may tracks Read -- --topic "$tracks" --group "$prefix.tracks"
may tracks Write -- --topic "$dead_tracks"

# hitparade consume weekly
may weekly Read -- --topic "$triggers" --group "$prefix.weekly"
may weekly Read Write -- --topic "$playlists" --topic "$evaluations"
may weekly Describe -- --topic "$sessions" --topic "$tracks"

# hitparade schedule; hitparade trigger
may scheduler Read -- --topic "$sessions" --topic "$tracks"
may scheduler Read Write -- --topic "$triggers"

# hitparade serve; it tells how far counting is behind, and the end of a topic is known by reading it alone
may service Read -- --topic "$playlists" --topic "$evaluations" --topic "$sessions" --topic "$tracks"
# may service Write -- --topic "$triggers"  # with HITPARADE_API_TOKEN, for POST /triggers

# hitparade audit, rebuild, dead-letters replay, doctor, and every command that looks
may operator Read DescribeConfigs -- --topic "$prefix." --resource-pattern-type prefixed
may operator Describe -- --group "$prefix." --resource-pattern-type prefixed
may operator Describe -- --cluster
may operator Write -- --topic "$sessions" --topic "$tracks"
may operator Write -- --topic "$late" --topic "$dead_sessions"
