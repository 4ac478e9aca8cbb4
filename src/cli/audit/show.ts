import type { Command } from 'commander';
import { type Row, showStream } from '../../audit/index.ts';
import { outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, withReader } from './access.ts';

const words = (value: unknown): string => {
  if (value === null || value === undefined) return '-';
  return typeof value === 'string' ? value : JSON.stringify(value);
};

/** What another site says of the stream is told from what was written here. */
const ofSite = (row: Row): string => (typeof row.site === 'string' ? ` of site ${row.site}` : '');

const decisionLines = (row: Row): string[] => [
  `${words(row.occurred_at)}  ${words(row.action)}${row.recheck === true ? ' at a re-check' : ''} by ${words(row.decided_by)} on agent ${words(row.agent)}${ofSite(row)}`,
  `  connection ${words(row.connection)}, principal ${words(row.principal)}, key ${words(row.key_id)} (${words(row.key_slot)})`,
  `  target ${words(row.target_host)}:${words(row.target_port)} at ${words(row.target_addr)}, from ${words(row.source_addr)} through ${words(row.gateway)}`,
  `  rule ${words(row.policy_rule)}, matched ${words(row.policy_rules)}, reasons ${words(row.reasons)}`,
  `  bundle ${words(row.bundle_sequence)} ${words(row.bundle_sha256)}, event ${words(row.event_id)}`,
];

const endLine = (row: Row): string =>
  row.closed_at === null
    ? `still open, or its end was not recorded (${words(row.state)})${ofSite(row)}`
    : `ended ${words(row.closed_at)}${ofSite(row)}: ${words(row.close_reason)}, ${words(row.bytes_up)} bytes up, ${words(row.bytes_down)} down, ${words(row.duration_ms)} ms`;

const show = async (streamId: string, flags: DatabaseFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  await withReader(flags, async (reader) => {
    const story = await showStream(reader, streamId);
    output.document(story);
    output.line(`stream ${story.stream_id}`);
    for (const row of story.decisions) for (const line of decisionLines(row)) output.line(line);
    for (const row of story.streams) output.line(endLine(row));
    output.line();
    output.table(story.events, [
      { title: 'occurred', value: (row) => words(row.occurred_at) },
      { title: 'recorded by', value: (row) => `${words(row.origin)}${ofSite(row)}` },
      { title: 'event', value: (row) => words(row.summary) },
    ]);
  });
};

export const showCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('show')
      .summary('the story of one stream')
      .description(
        'Everything recorded of one stream: its decision, its end, and the links that carried it, from both sides. ' +
          'Connects to: the audit database, as role audit_read, audit_verify or its owner.',
      )
      .argument('<stream>', 'stream id'),
  ).action(show);
};
