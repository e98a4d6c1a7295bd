//! Two listeners: one with TLS, and one without, for a proxy that terminates TLS or for clients that have to learn
//! that HTTPS is required.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use axum_server::tls_rustls::RustlsConfig;
use axum_server::{Control, Handle};
use keyward::http::Connection;

/// Time that requests in flight may take once the program is asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stopped` completes and the requests in flight have been answered.
pub(crate) async fn serve(
    app: Router,
    (secure, config): (TcpListener, RustlsConfig),
    plain: TcpListener,
    stopped: impl Future<Output = ()>,
) -> io::Result<()> {
    let control = Control::new();
    let secure = axum_server::from_tcp_rustls(secure, config)?
        .handle(Handle::with_control(control.clone()))
        .serve(over(app.clone(), true));
    let plain = axum_server::from_tcp(plain)?
        .handle(Handle::with_control(control.clone()))
        .serve(over(app, false));
    let stop = async {
        stopped.await;
        control.graceful_shutdown(Some(GRACE));
        Ok(())
    };
    tokio::try_join!(secure, plain, stop)?;
    Ok(())
}

/// Puts the application behind one listener. Only the listener knows whether its connections use TLS.
fn over(app: Router, is_tls: bool) -> IntoMakeServiceWithConnectInfo<Router, SocketAddr> {
    let told = map_request(
        move |ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request| async move {
            let peer = Some(peer.ip());
            request.extensions_mut().insert(Connection { peer, is_tls });
            request
        },
    );
    app.layer(told)
        .into_make_service_with_connect_info::<SocketAddr>()
}
