with

    source as (select * from {{ source("shop", "products") }}),

    final as (

        select
            -- ids
            cast(product_id as bigint) as product_id,
            cast(manufacturer_id as bigint) as manufacturer_id,

            -- strings
            cast(department as varchar) as department,
            cast(brand as varchar) as brand,
            cast(category as varchar) as category,
            cast(type as varchar) as type,
            cast(package_size as varchar) as package_size,

            -- timestamps
            cast(updated_at as timestamp) as updated_at,
            _sdc_batched_at as loaded_at

        from source
        where _sdc_deleted_at is null

    )

select *
from final
