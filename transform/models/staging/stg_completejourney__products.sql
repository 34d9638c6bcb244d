with

    source as (select * from {{ source("completejourney", "products") }}),

    final as (

        select
            -- ids
            cast(product_id as bigint) as product_id,
            cast(manufacturer_id as bigint) as manufacturer_id,

            -- strings
            cast(department as varchar) as department,
            cast(brand as varchar) as brand,
            cast(product_category as varchar) as product_category,
            cast(product_type as varchar) as product_type,
            cast(package_size as varchar) as package_size

        from source

    )

select *
from final
