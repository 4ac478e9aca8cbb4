import {
  CONNECT,
  commandText,
  loginAnswer,
  METHOD,
  methodAnswer,
  type Reading,
  readGreeting,
  readLogin,
  readRequest,
  requestAnswer,
} from './socks5-messages.ts';
import { SOCKS_REPLY } from './stream-answers.ts';
import type { Users } from './users.ts';

/** What a handshake has come to. */
export type HandshakeState =
  | { readonly kind: 'more' }
  | {
      readonly kind: 'connect';
      readonly host: string;
      readonly port: number;
      /** Who logged in; undefined where nobody has to. */
      readonly user: string | undefined;
      /** What came behind the request: the stream's. */
      readonly rest: Buffer;
    }
  | {
      readonly kind: 'refused';
      readonly cause: 'malformed' | 'unsupported' | 'unauthenticated';
      readonly detail: string;
    };

export interface HandshakeStep {
  /** To be sent to the client, in order; maybe empty. */
  readonly answer: Buffer;
  readonly state: HandshakeState;
}

const NOTHING = Buffer.alloc(0);
const MORE: HandshakeState = { kind: 'more' };

/**
 * The server's side of a SOCKS5 handshake (RFC 1928, RFC 1929), however its bytes are cut. It holds the message that is
 * not complete yet, 513 bytes at most, and what came behind it in the same chunk.
 */
export class Socks5Handshake {
  readonly #users: Users | undefined;
  #phase: 'greeting' | 'login' | 'request' | 'over' = 'greeting';
  #bytes: Buffer = NOTHING;
  #user: string | undefined;

  /** @param users whom to let in; undefined: everybody, without a login */
  constructor(users: Users | undefined) {
    this.#users = users;
  }

  /** Takes what came; not to be called again once it answered anything but `more`. */
  push(chunk: Buffer): HandshakeStep {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    const answers: Buffer[] = [];
    let state = MORE;
    let before: string;
    do {
      before = this.#phase;
      state = this.#next(answers);
    } while (state === MORE && this.#phase !== before);
    // A few bytes of an unfinished message must not keep the chunk that they came in.
    if (state === MORE) this.#bytes = Buffer.from(this.#bytes);
    return { answer: Buffer.concat(answers), state };
  }

  #next(answers: Buffer[]): HandshakeState {
    switch (this.#phase) {
      case 'greeting':
        return this.#read(readGreeting(this.#bytes), answers, (methods) => this.#choose(methods, answers));
      case 'login':
        return this.#read(readLogin(this.#bytes), answers, ({ name, password }) => {
          this.#user = this.#users?.check(name, password);
          const isRight = this.#user !== undefined;
          answers.push(loginAnswer(isRight));
          this.#phase = 'request';
          return isRight ? MORE : this.#refuse('unauthenticated', 'wrong name or password');
        });
      case 'request':
        return this.#read(readRequest(this.#bytes), answers, ({ command, host, port }) => {
          if (command !== CONNECT) {
            answers.push(requestAnswer(SOCKS_REPLY.commandNotSupported));
            return this.#refuse('unsupported', `command ${commandText(command)}`);
          }
          this.#phase = 'over';
          return { kind: 'connect', host, port, user: this.#user, rest: this.#bytes };
        });
      case 'over':
        return this.#refuse('malformed', 'the handshake is over');
    }
  }

  #choose(methods: readonly number[], answers: Buffer[]): HandshakeState {
    const wanted = this.#users === undefined ? METHOD.none : METHOD.password;
    if (!methods.includes(wanted)) {
      answers.push(methodAnswer(METHOD.unacceptable));
      return wanted === METHOD.password
        ? this.#refuse('unauthenticated', 'the client offers no login with name and password')
        : this.#refuse('unsupported', 'the client insists on a login, and this entrance has no users');
    }
    answers.push(methodAnswer(wanted));
    this.#phase = wanted === METHOD.password ? 'login' : 'request';
    return MORE;
  }

  #read<T>(reading: Reading<T>, answers: Buffer[], take: (message: T) => HandshakeState): HandshakeState {
    if (reading.kind === 'more') return MORE;
    if (reading.kind === 'invalid') {
      const { detail, reply } = reading;
      if (reply !== undefined) answers.push(requestAnswer(reply));
      return this.#refuse(
        reply === SOCKS_REPLY.addressTypeNotSupported ? 'unsupported' : 'malformed',
        detail,
      );
    }
    this.#bytes = this.#bytes.subarray(reading.consumedBytes);
    return take(reading.message);
  }

  #refuse(cause: 'malformed' | 'unsupported' | 'unauthenticated', detail: string): HandshakeState {
    this.#phase = 'over';
    return { kind: 'refused', cause, detail };
  }
}
