//! The runtime as the CRI's ImageService: the image store in the CRI's words.

use std::collections::HashMap;

use cri::{Error, ImageService, Reply, ReplyStream, v1};
use images::{Credentials, Image, PullOptions};

use crate::error::of_image;
use crate::runtime::{Runtime, now};
use crate::service::portions;

impl Runtime {
    fn list_of_images(&self, filter: Option<v1::ImageFilter>) -> Vec<v1::Image> {
        let wanted = filter.and_then(|filter| filter.image).map(|spec| spec.image).unwrap_or_default();
        let images = &self.0.config.images;
        if wanted.is_empty() {
            return images.list().iter().map(cri_image).collect();
        }
        images.get(&wanted).iter().map(cri_image).collect()
    }
}

fn cri_image(image: &Image) -> v1::Image {
    // `user`, `user:group`: a number is an id, anything else a name.
    let user = image.user.split(':').next().unwrap_or_default();
    let (uid, username) = match user.parse::<i64>() {
        Ok(value) => (Some(v1::Int64Value { value }), String::new()),
        Err(_) => (None, user.to_owned()),
    };
    v1::Image {
        id: image.id.as_str().to_owned(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid,
        username,
        spec: None,
        pinned: image.pinned,
    }
}

/// Credentials as the CRI gives them: in parts, or Docker's encoded pair.
fn credentials(auth: v1::AuthConfig) -> Result<Credentials, Error> {
    let mut credentials = Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
        server_address: auth.server_address,
    };
    let is_said = !credentials.username.is_empty()
        || !credentials.identity_token.is_empty()
        || !credentials.registry_token.is_empty();
    if !is_said && !auth.auth.is_empty() {
        let pair = Credentials::from_encoded(&auth.auth);
        let pair =
            pair.ok_or_else(|| Error::unknown("invalid auth config: it is no encoded user name and password"))?;
        (credentials.username, credentials.password) = (pair.username, pair.password);
    }
    Ok(credentials)
}

impl ImageService for Runtime {
    fn list_images(&self, request: v1::ListImagesRequest) -> Reply<'_, v1::ListImagesResponse> {
        Box::pin(async move { Ok(v1::ListImagesResponse { images: self.list_of_images(request.filter) }) })
    }

    fn stream_images(&self, request: v1::StreamImagesRequest) -> Reply<'_, ReplyStream<v1::StreamImagesResponse>> {
        Box::pin(async move {
            Ok(portions(self.list_of_images(request.filter), |images| v1::StreamImagesResponse { images }))
        })
    }

    fn image_status(&self, request: v1::ImageStatusRequest) -> Reply<'_, v1::ImageStatusResponse> {
        Box::pin(async move {
            let name = request.image.unwrap_or_default().image;
            let Some(image) = self.0.config.images.get(&name) else { return Ok(v1::ImageStatusResponse::default()) };
            let mut info = HashMap::new();
            if request.verbose {
                let text = self.0.config.images.image_config_text(image.id.as_str()).map_err(|e| of_image(&e))?;
                let text = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
                let chain = image.chain_ids.last().map(ToString::to_string);
                let text = serde_json::json!({ "chainID": chain, "imageSpec": text });
                info.insert("info".to_owned(), text.to_string());
            }
            Ok(v1::ImageStatusResponse { image: Some(cri_image(&image)), info })
        })
    }

    fn pull_image(&self, request: v1::PullImageRequest) -> Reply<'_, v1::PullImageResponse> {
        Box::pin(async move {
            let name = request.image.unwrap_or_default().image;
            let credentials = credentials(request.auth.unwrap_or_default())?;
            let options = PullOptions { credentials, progress: None };
            let image = self.0.config.images.pull(&name, options).await.map_err(|e| of_image(&e))?;
            Ok(v1::PullImageResponse { image_ref: image.id.as_str().to_owned() })
        })
    }

    fn remove_image(&self, request: v1::RemoveImageRequest) -> Reply<'_, v1::RemoveImageResponse> {
        Box::pin(async move {
            let name = request.image.unwrap_or_default().image;
            let images = self.0.config.images.clone();
            let removed = tokio::task::spawn_blocking(move || images.remove(&name)).await;
            match removed {
                Ok(Ok(_)) => Ok(v1::RemoveImageResponse {}),
                Ok(Err(e)) if e.kind() == images::ErrorKind::NotFound => Ok(v1::RemoveImageResponse {}),
                Ok(Err(e)) => Err(of_image(&e)),
                Err(e) => Err(Error::unknown(e.to_string())),
            }
        })
    }

    fn image_fs_info(&self, _: v1::ImageFsInfoRequest) -> Reply<'_, v1::ImageFsInfoResponse> {
        Box::pin(async move {
            let images = self.0.config.images.clone();
            let usage = tokio::task::spawn_blocking(move || images.usage()).await;
            let usage = usage.map_err(|e| Error::unknown(e.to_string()))?;
            let usage = v1::FilesystemUsage {
                timestamp: now(),
                fs_id: Some(v1::FilesystemIdentifier { mountpoint: self.0.config.images.root().display().to_string() }),
                used_bytes: Some(v1::UInt64Value { value: usage.bytes }),
                inodes_used: Some(v1::UInt64Value { value: usage.inodes }),
            };
            Ok(v1::ImageFsInfoResponse { image_filesystems: vec![usage.clone()], container_filesystems: vec![usage] })
        })
    }
}
