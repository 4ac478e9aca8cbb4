import type { Socket } from 'node:net';
import type { Application } from '../application.ts';
import { resetSocket } from '../../runtime/index.ts';
import { AskingEntrance } from './asking-entrance.ts';
import type { Handshake } from './conversations.ts';
import { askedFor, type EntranceOptions, labelOf } from './entrance.ts';
import { type HandshakeState, Socks5Handshake } from './socks5-handshake.ts';
import { requestAnswer } from './socks5-messages.ts';
import { answerOf, SOCKS_REPLY } from './stream-answers.ts';

/** Applications that speak SOCKS5: CONNECT to what is listed, and nothing else. */
export class Socks5Entrance extends AskingEntrance<'socks5'> {
  constructor(options: EntranceOptions) {
    super('socks5', options);
  }

  protected override onTooSlow(socket: Socket): void {
    this.listener.note(socket, 'too_slow');
    resetSocket(socket);
  }

  protected override onHandshake(socket: Socket, shaking: Handshake): void {
    const handshake = new Socks5Handshake(this.users);
    const onData = (chunk: Buffer): void => {
      const { answer, state } = handshake.push(chunk);
      if (state.kind === 'more') {
        if (answer.length > 0) socket.write(answer);
        return;
      }
      socket.pause();
      socket.off('data', onData);
      socket.off('end', onEnd);
      shaking.over();
      this.#onState(socket, answer, state);
    };
    // It went away before it had asked for anything.
    const onEnd = (): void => {
      socket.destroy();
    };
    socket.on('data', onData);
    socket.on('end', onEnd);
    socket.resume();
  }

  #onState(socket: Socket, answer: Buffer, state: Exclude<HandshakeState, { readonly kind: 'more' }>): void {
    if (state.kind === 'refused') {
      this.listener.note(socket, state.cause, state.detail);
      // Who does not speak the protocol gets no word of it.
      if (answer.length === 0) resetSocket(socket);
      else this.conversations.sayAndEnd(socket, answer);
      return;
    }
    const { host, port, user, rest } = state;
    if (answer.length > 0) socket.write(answer);
    const { destinations, accept } = this.options;
    const pool = destinations.find(host, port);
    if (pool === undefined) {
      this.listener.note(socket, 'unlisted', askedFor(host, port));
      this.conversations.sayAndEnd(socket, requestAnswer(SOCKS_REPLY.notAllowed));
      return;
    }
    const application: Application = {
      socket,
      early: rest,
      label: labelOf(this.kind, user),
      isTold: true,
      accepted: () => {
        socket.write(requestAnswer(SOCKS_REPLY.succeeded));
      },
      refused: (refused) => this.conversations.sayAndEnd(socket, requestAnswer(answerOf(refused).socks)),
    };
    accept(application, pool);
  }
}
