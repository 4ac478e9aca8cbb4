export { DIAL_TIMEOUT_MS, dial } from './carrier/dial.ts';
export {
  configuredProxy,
  environmentProxy,
  noProxy,
  type Proxy,
  proxyAddressSchema,
  type ProxyFor,
  type ProxySettings,
  proxySettingsSchema,
} from './carrier/proxy.ts';
export { CONTROL_PATH, CONTROL_SUBPROTOCOL, ControlChannel } from './control/control-channel.ts';
export { CONNECTION_HEADER } from './control/dial-control.ts';
export {
  chainOf,
  handshakeOf,
} from './certificate/checked-handshake.ts';
export {
  type CertificateStanding,
  revocationView,
  type RevocationMode,
  ServerRevocation,
} from './certificate/server-revocation.ts';
export { tlsTrustSchema } from './certificate/tls-settings.ts';
export type { ControlLinkErrorCode } from './control/errors.ts';
export type {
  AttachedCredential,
  ConnectionInfo,
  CredentialRefused,
  CredentialSource,
  HealthReport,
  LinkFailedReport,
  LinkRequest,
  LoginDown,
  LoginHandlers,
  LoginState,
  NodeLoginOptions,
  RevokedNotice,
  StreamFailure,
  StreamInfo,
} from './control/login-types.ts';
export { type ControlMessage, MAX_MESSAGE_BYTES, type Payload } from './control/messages.ts';
export { NodeLogin } from './control/node-login.ts';
export { AuthenticatedPeer } from './link/authenticated-peer.ts';
export { portsSchema, relayNodesSchema } from './link/relay-nodes.ts';
export { LinkError, type LinkErrorCode, type LinkStep } from './link/errors.ts';
export type {
  Claim,
  LinkOffer,
  LinkPeer,
  LinkRefusal,
  PartyKey,
  RelayNodeConfig,
  Side,
} from './link/offer.ts';
export {
  type DataLinkOptions,
  HANDSHAKE_TIMEOUT_MS,
  openDataLink,
  type OwnParty,
} from './link/open-data-link.ts';
export type { LinkCertificate } from '../runtime/index.ts';
export { MAX_PROXY_HEADER_BYTES, type ProxyHeaderReading, readProxyHeader } from './carrier/proxy-header.ts';
export { SNIFF_TIMEOUT_MS, type Sniffed, sniff } from './carrier/sniff.ts';
export {
  LINK_PROTOCOL,
  PROBE_PATH,
  PROBE_PROTOCOL,
  probeAnswer,
  ROLE_HEADER,
  TOKEN_PATTERN,
} from './carrier/preamble.ts';
export { acceptCarriers, LINK_PATH, TOKEN_HEADER } from './carrier/accept-web-socket.ts';
export { carrierChoices, type CarrierKind, controlPorts, linkCounts, portsOf } from './carrier/choice.ts';
export { WebSocketCarrier } from './carrier/web-socket-carrier.ts';
export { probe } from './carrier/probe.ts';
export { CarrierBook } from './carrier/carrier-book.ts';
export type { CarrierStatus } from './carrier/node-carriers.ts';
export { advance, OFFERED, type RendezvousEvent, type RendezvousState } from './rendezvous/state.ts';
export { OFFER_LIFE_MS, TokenBook } from './rendezvous/token-book.ts';
export {
  acceptControl,
  type ControlServer,
  type Problem,
  problemResponse,
  refuseUpgrade,
} from './control/control-server.ts';
export { SESSION_LIMITS } from './session/constants.ts';
export type { SessionErrorCode } from './session/errors.ts';
export { encodeHello, HelloReader } from './session/hello.ts';
export { RecentIds } from './session/recent-ids.ts';
export { Session } from './session/session.ts';
export type {
  GoAway,
  Hello,
  HelloLimits,
  IncomingOpen,
  OpenHandlers,
  OpenMeta,
  RecentIdSet,
  Refusal,
  SessionEnd,
  SessionHandle,
  SessionOptions,
  SessionPeer,
  SessionStats,
  SessionStream,
  StreamEnd,
} from './session/types.ts';
