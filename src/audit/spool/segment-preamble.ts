import { type ChainState, newChain, type OpenStream } from './chain-state.ts';
import type { SpoolHead } from './head-file.ts';
import { record, RECORD, SEGMENT_MAGIC } from './record.ts';
import type { SegmentHeader } from './recovery.ts';

/** Bytes of open streams in one record, about. */
const STREAMS_RECORD_BYTES = 1024 * 1024;

/** The open streams, in as many records as it takes: the first replaces what was known before, each other one adds to it. */
const streamRecords = (open: readonly OpenStream[]): Buffer[] => {
  const records: Buffer[] = [];
  let texts: string[] = [];
  let length = 0;
  const finish = (): void => {
    const kind = records.length === 0 ? RECORD.openStreams : RECORD.moreOpenStreams;
    records.push(record(kind, Buffer.from(`[${texts.join(',')}]`)));
    texts = [];
    length = 0;
  };
  for (const { streamId, decisionId, subject } of open) {
    const text = JSON.stringify([streamId, decisionId, subject.toString('utf8')]);
    texts.push(text);
    length += text.length;
    if (length >= STREAMS_RECORD_BYTES) finish();
  }
  if (texts.length > 0 || records.length === 0) finish();
  return records;
};

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
  const headerRecord = record(RECORD.header, Buffer.from(JSON.stringify(header)));
  return Buffer.concat([SEGMENT_MAGIC, headerRecord, ...streamRecords(open)]);
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
