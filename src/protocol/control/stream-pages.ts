import { type Logger, messageOf } from '../../runtime/index.ts';
import type { ControlChannel } from './control-channel.ts';
import type { LoginHandlers } from './login-types.ts';

/** Streams in one answer: well within a message of 64 KiB whatever their names. */
export const STREAMS_PER_PAGE = 50;

/** Answers one page of the live streams, in order of their ids; `next` is the last id of the page before. */
export const answerStreams = async (
  channel: ControlChannel,
  re: number,
  query: { readonly connection?: string | undefined; readonly next?: string | undefined },
  handlers: LoginHandlers,
  logger: Logger,
): Promise<void> => {
  try {
    const all = (await handlers.onStreamsQuery?.({ connection: query.connection })) ?? [];
    const after = query.next ?? '';
    const left = all
      .filter((stream) => stream.stream_id > after)
      .sort((a, b) => (a.stream_id < b.stream_id ? -1 : 1));
    const items = left.slice(0, STREAMS_PER_PAGE);
    const next = left.length > items.length ? items.at(-1)?.stream_id : undefined;
    channel.send('streams.answer', { items, ...(next === undefined ? {} : { next }) }, re);
  } catch (thrown) {
    logger.warn({ detail: messageOf(thrown) }, 'streams could not be listed');
    channel.send('error', { code: 'internal', detail: 'streams could not be listed' }, re);
  }
};
