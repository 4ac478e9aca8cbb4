import { type ChainState, newChain, type OpenStream } from './chain-state.ts';
import type { SpoolHead } from './head-file.ts';
import { record, RECORD, SEGMENT_MAGIC } from './record.ts';
import type { SegmentHeader } from './recovery.ts';

/** First bytes of a segment: magic, where the chain stands, and the streams that are open. */
export const segmentPreamble = (segment: number, state: ChainState, open: readonly OpenStream[]): Buffer => {
  const header: SegmentHeader = {
    v: 1,
    segment,
    chain: state.chain,
    epoch: state.epoch,
    prev_chain: state.prevChain,
    prev_chain_seal: state.prevChainSeal?.toString('hex') ?? null,
    last_seq: state.lastSeq,
    sealed_seq: state.sealedSeq,
    last_batch: state.lastBatch,
    last_seal: state.lastSeal?.toString('hex') ?? null,
  };
  const streams = open.map((stream) => [stream.streamId, stream.decisionId, stream.subject.toString('utf8')]);
  return Buffer.concat([
    SEGMENT_MAGIC,
    record(RECORD.header, Buffer.from(JSON.stringify(header))),
    record(RECORD.openStreams, Buffer.from(JSON.stringify(streams))),
  ]);
};

/** The newest chain: the head file knows it when its segments were all delivered and deleted. */
export const newestChain = (
  found: ChainState | undefined,
  head: SpoolHead | undefined,
): ChainState | undefined => {
  if (head === undefined || (found !== undefined && found.epoch >= head.epoch)) return found;
  return {
    ...newChain({ chain: head.chain, epoch: head.epoch, prevChain: null, prevChainSeal: null }),
    lastSeq: head.seq,
    sealedSeq: head.seq,
    lastBatch: head.batch,
    lastSeal: head.seal === null ? null : Buffer.from(head.seal, 'hex'),
    final: head.final,
  };
};
