import { z } from 'zod';
import { EXIT } from '../../runtime/index.ts';
import { type Column, counted, type Output } from '../output.ts';
import { agentOf, bundleSchema } from './agent-access.ts';
import { askQuestion } from './agent-question.ts';
import { readBundleArgument } from './bundle-argument.ts';

/** Rows of one table on a terminal; --json has all that the agent names. */
const MAX_ROWS = 200;

const endingSchema = z.object({
  connection: z.string(),
  principal: z.string().nullable(),
  target: z.string().nullable(),
  rule: z.string().nullable(),
  reason: z.string(),
});
const previewSchema = z.object({
  bundle: bundleSchema.extend({ signed_by: z.string().nullable() }),
  active: bundleSchema.optional(),
  is_active: z.boolean(),
  not_activatable: z.string().nullable(),
  live: z.number(),
  would_close: z.number(),
  would_hold: z.boolean(),
  reasons: z.record(z.string(), z.number()),
  streams: z.array(
    endingSchema.extend({ stream_id: z.string(), address: z.string().nullable(), opened_at: z.string() }),
  ),
  streams_cut_off: z.number(),
  published: z.number(),
  would_unpublish: z.number(),
  publications: z.array(endingSchema.extend({ node: z.string() })),
  publications_cut_off: z.number(),
});
type Preview = z.output<typeof previewSchema>;

const ENDING: readonly Column<z.output<typeof endingSchema>>[] = [
  { title: 'connection', value: ({ connection }) => connection },
  { title: 'principal', value: ({ principal }) => principal ?? '' },
  { title: 'target', value: ({ target }) => target ?? '' },
  { title: 'rule', value: ({ rule }) => rule ?? '' },
  { title: 'reason', value: ({ reason }) => reason },
];

const table = <Row>(
  output: Output,
  rows: readonly Row[],
  total: number,
  columns: readonly Column<Row>[],
): void => {
  if (total === 0) return;
  output.line();
  const shown = rows.slice(0, MAX_ROWS);
  output.table(shown, columns);
  if (total > shown.length) output.line(`and ${String(total - shown.length)} more`);
};

const print = (output: Output, preview: Preview): void => {
  const { bundle, active, live, streams, publications } = preview;
  const by = bundle.signed_by === null ? 'unsigned' : `signed by ${bundle.signed_by}`;
  output.line(`sequence ${String(bundle.sequence)}, '${bundle.revision}', ${by}, ${bundle.sha256}`);
  if (preview.is_active) output.line('it is the active bundle');
  else if (active === undefined) output.line('no bundle is active');
  else output.line(`active: sequence ${String(active.sequence)}, '${active.revision}', ${active.sha256}`);
  if (preview.not_activatable !== null)
    output.line(`cannot be activated as it is: ${preview.not_activatable}`);
  const held = preview.would_hold ? '; it would be held for policy activate' : '';
  output.line(`would close ${String(preview.would_close)} of ${counted(live, 'live stream')}${held}`);
  output.line(`would end ${String(preview.would_unpublish)} of ${counted(preview.published, 'publication')}`);
  const reasons = Object.entries(preview.reasons).sort(([, a], [, b]) => b - a);
  if (reasons.length > 1)
    output.line(`because: ${reasons.map(([code, n]) => `${code} ${String(n)}`).join(', ')}`);
  table(output, streams, preview.would_close, [
    { title: 'stream', value: ({ stream_id: id }) => id },
    ...ENDING,
    { title: 'opened', value: ({ opened_at: at }) => at },
  ]);
  table(output, publications, preview.would_unpublish, [
    { title: 'publication at', value: ({ node }) => node },
    ...ENDING,
  ]);
};

/** What activating a bundle would end at a running agent; exits 1 when that is anything. */
export const liveDiff = async (bundlePath: string, config: string, output: Output): Promise<void> => {
  const place = await agentOf(config);
  const bundle = await readBundleArgument(bundlePath);
  const answer = await askQuestion(place, { what: 'preview', bundle }, output);
  const preview = previewSchema.parse(answer);
  output.document(preview);
  print(output, preview);
  if (preview.would_close + preview.would_unpublish > 0) output.exitWith(EXIT.notSo);
};
