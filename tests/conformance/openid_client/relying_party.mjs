// A bank's server written with openid-client, the certified relying-party library. It speaks with the test in lines of
// JSON: it is told who it is, says where to send the citizen, is told where the citizen came back to, and says what it got.
import { createInterface } from 'node:readline'
import * as oidc from 'openid-client'

const heard = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const hear = async () => JSON.parse((await heard.next()).value)
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`)

const given = await hear()
const key = await crypto.subtle.importKey('jwk', given.jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const config = await oidc.discovery(
  new URL(given.issuer),
  given.client_id,
  { id_token_signed_response_alg: 'ES256', token_endpoint_auth_signing_alg: 'ES256' },
  oidc.PrivateKeyJwt({ key, kid: given.jwk.kid }),
  // The instance under test speaks http on loopback.
  { execute: [oidc.allowInsecureRequests] },
)
const server = config.serverMetadata()

const pkceCodeVerifier = oidc.randomPKCECodeVerifier()
const expectedNonce = oidc.randomNonce()
const expectedState = oidc.randomState()
const authorization = oidc.buildAuthorizationUrl(config, {
  redirect_uri: given.redirect_uri,
  scope: given.scope,
  code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
  code_challenge_method: 'S256',
  nonce: expectedNonce,
  state: expectedState,
})
say({ step: 'authorize', issuer: server.issuer, url: authorization.href })

const { callback } = await hear()
const checks = { pkceCodeVerifier, expectedNonce, expectedState, idTokenExpected: true }
const tokens = await oidc.authorizationCodeGrant(config, new URL(callback), checks)
const claims = tokens.claims()
const userinfo = await oidc.fetchUserInfo(config, tokens.access_token, claims.sub)
const replayed = await oidc.authorizationCodeGrant(config, new URL(callback), checks).then(
  () => 'accepted twice',
  (error) => error.error,
)
const logout = oidc.buildEndSessionUrl(config, {
  id_token_hint: tokens.id_token,
  post_logout_redirect_uri: given.post_logout_redirect_uri,
  state: expectedState,
})
say({ step: 'done', claims, userinfo, replayed, logout: logout.href, state: expectedState })
process.exit(0)
