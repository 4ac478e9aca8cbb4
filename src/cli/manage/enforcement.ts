import type { EnforcementView } from '../../control/index.ts';
import { EXIT } from '../../runtime/index.ts';
import { counted, type Output } from '../output.ts';

/** `2 links, 5 streams`, or that nobody knows of streams. */
export const showCut = ({ links, streams }: Pick<EnforcementView, 'links' | 'streams'>): string =>
  `${counted(links, 'link')}, ${streams === null ? 'streams unknown (no agent answered)' : counted(streams, 'stream')}`;

/** Tells what a revocation did, after `what` it was; the exit code is 1 while anyone is pending. */
export const showEnforcement = (output: Output, what: string, result: EnforcementView): void => {
  output.line(`${what}: ${showCut(result)}, ${counted(result.nodes, 'node')}, ${result.ms} ms`);
  showPending(output, result);
};

/** Who has not confirmed; the exit code is 1 then. */
export const showPending = (output: Output, { pending }: Pick<EnforcementView, 'pending'>): void => {
  for (const one of pending) output.line(`pending: ${one.kind} ${one.name} since ${one.since}`);
  if (pending.length > 0) output.exitWith(EXIT.notSo);
};
