//! Who may join, and what is said to the others.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_node_joins_and_reaches_the_table() {
    let mut gateway = Gateway::start("gw-1", &Arc::default());
    let key = VerifyingKey {
        key_id: vec![1; 4].into(),
        algorithm: 1,
        public_key: vec![2; 32].into(),
        regions: vec![440_100],
        not_before_unix_s: 1,
        not_after_unix_s: i64::MAX,
    };
    let mut node = gateway.join("guangzhou", suikang(|h, _| h.keys = vec![key.clone()])).await.unwrap();
    let table = gateway.until(|table| table.nodes.contains_key("suikang")).await;
    let endpoint = &table.nodes["suikang"].endpoints[0];
    assert_eq!(
        (&*endpoint.name, &*endpoint.address, endpoint.incarnation),
        ("suikang-1", "127.0.0.1:9101", 1)
    );
    assert_eq!(endpoint.ready.len(), 1);
    assert_eq!(table.quarantined, []);
    let (entry, live) = gateway.live().await.unwrap();
    assert!(entry.lease != 0 && live.gateway == "gw-1");
    // The keys come at once, and again when they have changed.
    let mut keys = node.keys().await;
    if keys.is_empty() {
        keys = node.keys().await;
    }
    assert_eq!(keys, [key]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_or_missing_token_is_refused() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    for token in ["", "wrong", "guangzho", "guangzhouu"] {
        assert_eq!(gateway.refused(token, plain()).await.0, Reason::JoinTokenInvalid, "{token:?}");
    }
    assert!(gateway.live().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_speaks_for_its_region_and_the_regions_below_it() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    assert_eq!(gateway.refused("xian", plain()).await.0, Reason::JoinScopeRefused);
    let province = |scopes: &[u32]| {
        suikang(|_, m| {
            (m.region, m.node, m.role) = (440_000, "yuekang".to_owned(), v1::Role::Province.into());
            m.scopes = scopes.to_vec();
        })
    };
    assert_eq!(gateway.refused("guangzhou", province(&[440_000, 440_100])).await.0, Reason::JoinScopeRefused);
    assert_eq!(gateway.refused("guangdong", province(&[440_000, 610_100])).await.0, Reason::JoinScopeRefused);
    gateway.join("guangdong", province(&[440_000, 440_100])).await.unwrap();
    gateway.join("guangdong", plain()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bad_hello_names_the_field() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let field = async |hello: Hello| {
        let (reason, details) = gateway.refused("guangzhou", hello).await;
        assert_eq!(reason, Reason::ManifestInvalid);
        details.into_iter().find(|(name, _)| name == "field").unwrap().1
    };
    assert_eq!(field(suikang(|_, m| m.region = 440_106)).await, "manifest.region");
    assert_eq!(field(suikang(|_, m| m.node = "Sui".to_owned())).await, "manifest.node");
    assert_eq!(field(suikang(|_, m| m.descriptor_set = b"\xff"[..].into())).await, "manifest.descriptor_set");
    assert_eq!(field(suikang(|h, _| h.endpoint = String::new())).await, "endpoint");
    assert_eq!(field(suikang(|h, _| h.address = "nowhere".to_owned())).await, "address");
    assert_eq!(field(suikang(|h, _| h.keys = vec![VerifyingKey::default()])).await, "keys.key_id");
    assert!(gateway.live().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_first_message_is_a_hello_and_comes_in_time() {
    let gateway = Gateway::start("gw-1", &Arc::default());
    let open = async |first: Option<Message>| {
        let (requests, outbound) = mpsc::channel(1);
        if let Some(first) = first {
            requests.send(said(first)).await.unwrap();
        }
        let mut request = Request::new(ReceiverStream::new(outbound));
        request.metadata_mut().insert("authorization", "Bearer guangzhou".parse().unwrap());
        let status =
            RegistryServiceClient::new(gateway.channel().await).register(request).await.err().unwrap();
        Reason::of(&status)
    };
    assert_eq!(open(Some(Message::Goodbye(Goodbye {}))).await, Some(Reason::ManifestInvalid));
    let start = Instant::now();
    assert_eq!(open(None).await, Some(Reason::RequestIncomplete));
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_name_of_another_region_is_taken() {
    let mut gateway = Gateway::start("gw-1", &Arc::default());
    let _node = gateway.join("guangzhou", plain()).await.unwrap();
    gateway.until(|table| table.nodes.contains_key("suikang")).await;
    let foreign = suikang(|_, m| (m.region, m.scopes) = (610_100, vec![610_100]));
    assert_eq!(gateway.refused("xian", foreign).await.0, Reason::NodeNameTaken);
}

#[tokio::test(start_paused = true)]
async fn without_the_registry_a_node_is_sent_to_another_gateway() {
    let gateway = Gateway::over("gw-1", &Arc::<Embedded>::default(), Arc::new(Away));
    assert_eq!(gateway.refused("guangzhou", plain()).await.0, Reason::RegistryUnavailable);
    // The task that looks after the entry ends with the gateway.
    gateway.shutdown.cancel();
    gateway.run.await.unwrap();
}

/// A registry that cannot be reached.
struct Away;

impl Registry for Away {
    fn list<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Listing, Error>> {
        async { Err(Error::Unreachable("away".to_owned())) }.boxed()
    }

    fn watch<'a>(&'a self, _: &'a str, _: i64) -> BoxFuture<'a, Result<mpsc::Receiver<Update>, Error>> {
        async { Err(Error::Unreachable("away".to_owned())) }.boxed()
    }

    fn commit(&self, _: Txn) -> BoxFuture<'_, Result<Outcome, Error>> {
        async { Err(Error::Unknown("away".to_owned())) }.boxed()
    }

    fn grant(&self, _: Duration) -> BoxFuture<'_, Result<i64, Error>> {
        async { Err(Error::Unreachable("away".to_owned())) }.boxed()
    }

    fn keep_alive(&self, _: i64) -> BoxFuture<'_, Result<(), Error>> {
        async { Err(Error::Unreachable("away".to_owned())) }.boxed()
    }

    fn revoke(&self, _: i64) -> BoxFuture<'_, Result<(), Error>> {
        async { Err(Error::Unreachable("away".to_owned())) }.boxed()
    }
}
