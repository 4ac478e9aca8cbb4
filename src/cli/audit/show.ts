import type { Command } from 'commander';
import { AuditReader, type Row, showStream } from '../../audit/index.ts';
import { outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, findAuditDatabase } from './access.ts';

const words = (value: unknown): string => {
  if (value === null || value === undefined) return '-';
  return typeof value === 'string' ? value : JSON.stringify(value);
};

const decisionLines = (row: Row): string[] => [
  `${words(row.occurred_at)}  ${words(row.action)} by ${words(row.decided_by)} on agent ${words(row.agent)}`,
  `  connection ${words(row.connection)}, principal ${words(row.principal)}, key ${words(row.key_id)} (${words(row.key_slot)})`,
  `  target ${words(row.target_host)}:${words(row.target_port)} at ${words(row.target_addr)}, from ${words(row.source_addr)} through ${words(row.gateway)}`,
  `  rule ${words(row.policy_rule)}, matched ${words(row.policy_rules)}, reasons ${words(row.reasons)}`,
  `  bundle ${words(row.bundle_sequence)} ${words(row.bundle_sha256)}, event ${words(row.event_id)}`,
];

const endLine = (row: Row): string =>
  row.closed_at === null
    ? `still open, or its end was not recorded (${words(row.state)})`
    : `ended ${words(row.closed_at)}: ${words(row.close_reason)}, ${words(row.bytes_up)} bytes up, ${words(row.bytes_down)} down, ${words(row.duration_ms)} ms`;

const show = async (streamId: string, flags: DatabaseFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const reader = await AuditReader.connect(findAuditDatabase(flags).databaseUrl);
  try {
    const story = await showStream(reader, streamId);
    output.document(story);
    output.line(`stream ${story.stream_id}`);
    for (const row of story.decisions) for (const line of decisionLines(row)) output.line(line);
    for (const row of story.streams) output.line(endLine(row));
    output.line();
    output.table(story.events, [
      { title: 'occurred', value: (row) => words(row.occurred_at) },
      { title: 'recorded by', value: (row) => words(row.origin) },
      { title: 'event', value: (row) => words(row.summary) },
    ]);
  } finally {
    await reader.close();
  }
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
